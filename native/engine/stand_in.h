// Memory that stands in for a model that is laid out only: its graphs run on it as they would on the model's own.
#pragma once

#include "error.h"

#include "ggml-cpp.h"
#include "llama.h"

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ternion {

/// How a model's layers repeat: those of one kind have tensors of the same types and shapes in the same memory, and see the same cells.
struct LayerKinds {
    std::vector<int32_t> kind;  // by layer
    std::vector<int32_t> place; // of a layer among those of its kind
    std::vector<int32_t> count; // by kind

    static LayerKinds of(const llama_model * model);
};

/// Random weights, and cells of random keys and values, in memory of the kinds where the model would have its own. Layers of a kind share
/// theirs round about, but so many of them have their own that one token reads more than `apart_bytes` of them, or all: what would come from
/// memory shall not come from a cache.
///
/// Lives shorter than the model; bind_cache()'s contexts shorter than it. One thread, that on which the model was laid out.
class StandIn {
  public:
    /// out_of_memory; aborted.
    static Result<std::unique_ptr<StandIn>> make(const llama_model * model, uint64_t apart_bytes, const std::atomic<bool> & cancel);
    ~StandIn(); // the model has no memory again
    StandIn(const StandIn &) = delete;
    StandIn & operator=(const StandIn &) = delete;

    /// Memory for the cells and states of a context of that model, which ends before the next one is bound. out_of_memory; aborted.
    Result<bool> bind_cache(llama_context * context, const std::atomic<bool> & cancel);

    const LayerKinds & kinds() const { return kinds_; }
    /// That were taken for weights.
    uint64_t bytes() const { return bytes_; }

  private:
    struct Was {
        ggml_tensor * tensor;
        ggml_backend_buffer_t buffer;
    };
    using Buffers = std::vector<ggml_backend_buffer_ptr>;
    using Named = std::vector<std::pair<std::string, ggml_tensor *>>;

    explicit StandIn(const llama_model * model);
    std::string key_of(const std::string & name, const ggml_tensor * tensor, int32_t layer) const;
    Result<bool> bind(Buffers & buffers, const Named & tensors, bool weights, const std::atomic<bool> & cancel);
    Result<bool> bind_in(ggml_backend_buffer_type_t memory, Buffers & buffers, const Named & tensors, bool weights, const std::atomic<bool> & cancel);
    const std::vector<uint8_t> & pattern_of(ggml_type type);
    size_t begin_of(ggml_type type);
    void fill(ggml_tensor * tensor, bool weights);

    const llama_model * const model_;
    const LayerKinds kinds_;
    std::vector<int32_t> apart_; // layers with memory of their own, by kind
    Buffers weights_, cache_;
    std::vector<Was> were_; // of weights
    std::map<ggml_type, std::vector<uint8_t>> patterns_;
    size_t filled_ = 0;
    uint64_t bytes_ = 0;
};

} // namespace ternion
