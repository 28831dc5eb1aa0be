// Products of a matrix with activations as graphs of ggml's CPU backend: what kernels are measured and checked with.
#pragma once

#include "error.h"
#include "kernel_choice.h"

#include "ggml-cpp.h"
#include "ggml-cpu.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ternion {

struct Product {
    ggml_type type = GGML_TYPE_COUNT;
    int64_t rows = 0;
    int64_t columns = 0; // weights of a row
    int64_t tokens = 1;
    int64_t experts = 0; // 0: one matrix, MUL_MAT; else as many, MUL_MAT_ID
    int64_t used = 0;    // experts that work on a token

    int64_t matrices() const { return experts > 0 ? experts : 1; }
    int64_t outputs() const { return tokens * (experts > 0 ? used : 1); } // columns of the result
    size_t row_bytes() const { return ggml_row_size(type, columns); }     // in a file
    size_t file_bytes() const { return row_bytes() * static_cast<size_t>(rows * matrices()); }
};

/// Who multiplies: "upstream", an extra buffer type of ggml's own ("upstream-repack"), or kernels of ours as kernel_names() has them.
struct Multiplier {
    std::string name;
    ggml_backend_buffer_type_t memory = nullptr; // where it wants its weights
    KernelChoice choice;                         // without kernels: upstream's
};

/// Every one that this build has on this processor, in the order in which llama.cpp would ask upstream's, then ours, fastest first.
std::vector<Multiplier> multipliers();

/// Whether weights for this product would be put into its memory.
bool takes(const Multiplier & multiplier, const Product & product);

/// The activations, the experts that are chosen, and the result, which every product of a graph writes over.
class Operands {
  public:
    /// `routings`: for each of several ways to choose, `used` experts for every token; empty for one matrix. Throws std::bad_alloc.
    Operands(const Product & product, const std::vector<float> & activations, const std::vector<std::vector<int32_t>> & routings);

    /// A node: the product with `weight`. The experts are those of routing `i`, counted round.
    ggml_tensor * node(ggml_context * context, ggml_tensor * weight, size_t i) const;

    size_t n_routings() const { return routings_.size(); }
    /// [output column][row]
    float * result() const { return static_cast<float *>(result_->data); }

  private:
    ggml_context_ptr context_;
    ggml_backend_buffer_ptr buffer_;
    ggml_tensor * activations_[2] = {}; // of the same values, in turn: our kernels would round those of two products in a row once
    ggml_tensor * result_ = nullptr;
    std::vector<ggml_tensor *> routings_;
};

/// Copies of a matrix (of a mixture's experts together) in the memory of a multiplier.
class Weights {
  public:
    /// `file`: the weights as a file has them. Waits while a model is being loaded. out_of_memory; aborted.
    static Result<std::unique_ptr<Weights>> make(const Multiplier & multiplier, const Product & product, int64_t copies, const std::vector<uint8_t> & file, const std::atomic<bool> & cancel);

    ggml_tensor * copy(size_t i) const { return copies_[i % copies_.size()]; }
    size_t n_copies() const { return copies_.size(); }
    /// Of one copy, in memory.
    size_t bytes() const { return bytes_; }

  private:
    Weights() = default;

    ggml_context_ptr context_;
    ggml_backend_buffer_ptr buffer_;
    std::vector<ggml_tensor *> copies_;
    size_t bytes_ = 0;
};

/// A CPU backend with a pool of its own threads, which lives as long. One thread at a time may use it.
class CpuRunner {
  public:
    explicit CpuRunner(int n_threads);

    /// Seconds of a graph of `count` products, one after the other: number `first` and those that follow, round the copies and then
    /// round the routings. aborted, within a product's time.
    Result<double> run(const Operands & operands, const Weights & weights, size_t first, size_t count, const std::atomic<bool> & cancel);

  private:
    struct FreePool {
        void operator()(ggml_threadpool * pool) const { ggml_threadpool_free(pool); }
    };
    std::unique_ptr<ggml_threadpool, FreePool> pool_;
    ggml_backend_ptr backend_; // goes before its pool
};

} // namespace ternion
