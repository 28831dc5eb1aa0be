// Activations that several matrices of a graph multiply (Q, K and V; gate and up) are made ready once.
//
// What is kept belongs to the threads of a pool. It is known by the tensors that it was made of, not by their addresses, which the
// next graph may use for others, and it is void in another graph and as soon as a node has written where they lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

struct ggml_cgraph;
struct ggml_tensor;
struct ggml_threadpool;

namespace ternion::kernels {

/// How activations are made ready: two operations for which this is alike can use the same.
struct Preparation {
    size_t columns = 0; // of the matrix
    size_t block = 0;
    size_t offsets_per_block = 0;
    const void * order = nullptr; // the function that orders or tabulates codes
    size_t n_products = 0;
    size_t n_matrices = 0;

    bool operator==(const Preparation &) const = default;
};

/// An operation of a graph that a pool computes.
struct Operation {
    const ggml_tensor * node;
    const ggml_cgraph * graph;
    uint64_t n_before; // graphs that the pool computed before

    Operation(const ggml_tensor * node, const ggml_threadpool * pool);
};

/// Memory with what was prepared, of one thread or of all of a pool.
class Prepared {
  public:
    /// Whether what was prepared for an earlier operation serves this one.
    bool serves(const Operation & operation, const Preparation & how) const;
    /// From now on it is what this operation prepared.
    void keep(const Operation & operation, const Preparation & how);

    /// 64-byte aligned, at least so large; contents are lost when it grows. Null: there is no memory.
    uint8_t * reserve(size_t bytes);
    size_t capacity() const { return bytes_; }
    uint8_t * data() const { return data_; }

    static constexpr size_t most_columns = 2;
    /// The columns that were prepared where an operation prepares as it goes.
    const float * columns[most_columns] = {};

  private:
    struct Inputs {
        const ggml_tensor * in = nullptr;
        const ggml_tensor * ids = nullptr;
    };

    Inputs inputs_;
    Preparation how_;
    uint64_t n_before_ = 0;
    int at_ = -1; // the node of the graph that it was prepared for
    std::unique_ptr<uint8_t[]> memory_;
    uint8_t * data_ = nullptr;
    size_t bytes_ = 0;
};

/// Of one pool. Each thread uses its own part; `common` is written by all between barriers, and told about by the first thread.
struct SharedActivations {
    explicit SharedActivations(size_t n_threads) : own(n_threads) {}

    std::vector<Prepared> own;
    Prepared common;
};

/// Pools that are made from now on have one. Idempotent; before the first pool.
void install_shared_activations();

/// Null if the pool is older than that.
SharedActivations * shared_activations(const ggml_threadpool * pool);

} // namespace ternion::kernels
