// One matrix product, computed by several kernels in turn: their times, and how far their results are from the truth.
#pragma once

#include "matrix_product.h"

#include <map>

namespace ternion {

struct KernelBenchOptions {
    std::string type; // ggml's name: "tq2_0" …
    int64_t rows = 0;
    int64_t columns = 0;
    int64_t tokens = 1;
    int64_t experts = 0; // 0: one matrix
    int64_t used = 0;
    int64_t copies = 1;               // of the weights, that products go round
    std::vector<std::string> kernels; // those of multipliers() to measure, by name
};

/// Of a result that was sampled evenly.
struct ProductError {
    size_t outputs = 0;   // numbers that were looked at
    double rms = 0.0;     // of the differences, relative to that of the exact results
    double largest = 0.0; // difference, relative to the largest exact result
    /// The largest difference to our scalar kernels, relative to their largest result; negative where they do not take the type.
    double from_scalar = -1.0;
};

/// Everything blocks, and one thread at a time may call.
class KernelBench {
  public:
    /// Fills the matrices with random weights. Those of `kernels` that do not take the product are left out. invalid_arg; out_of_memory;
    /// aborted.
    static Result<std::unique_ptr<KernelBench>> create(const KernelBenchOptions & options, const std::atomic<bool> & cancel);

    struct System {
        std::string name;
        bool ours;
        size_t bytes; // that one product reads of the weights, as they lie in memory
    };
    const std::vector<System> & systems() const { return systems_; }

    /// Seconds of `products` products in one graph, by `system`, on `threads` threads. One product before them wakes the threads and
    /// does not count. A product goes on where the last one of its system ended, so that no copy of the weights is read again before
    /// all others were. aborted.
    Result<double> sample(size_t system, int threads, size_t products, const std::atomic<bool> & cancel);

    /// What is wrong with the results of `system` on `threads` threads: the truth is the file's weights times the activations as they
    /// are, in double precision. aborted.
    Result<ProductError> error(size_t system, int threads, const std::atomic<bool> & cancel);

  private:
    /// Results that are known exactly: of some rows, in some columns.
    struct Known {
        std::vector<int64_t> rows, columns;
        std::vector<double> exact; // [column][row]
        std::vector<float> scalar; // the same by our scalar kernels; empty where they do not take the type
    };

    KernelBench(const Product & product, const std::vector<std::vector<int32_t>> & routings);
    CpuRunner & runner(int threads);
    Result<bool> know(const std::vector<uint8_t> & file, const std::vector<std::vector<int32_t>> & routings, const std::atomic<bool> & cancel);

    const Product product_;
    const std::vector<float> activations_;
    const Operands operands_;
    std::vector<System> systems_;
    std::vector<std::unique_ptr<Weights>> weights_;
    std::vector<size_t> next_; // product of each system
    std::map<int, CpuRunner> runners_;
    Known known_;
};

/// Types that can be measured: the name, the weights of a block and its bytes.
struct MeasurableType {
    std::string name;
    int64_t block_weights;
    size_t block_bytes;
};
std::vector<MeasurableType> measurable_types();

} // namespace ternion
