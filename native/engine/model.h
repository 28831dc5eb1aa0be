// A loaded GGUF: weights, vocabulary, facts.
#pragma once

#include "backend.h"
#include "error.h"
#include "packed_load.h"
#include "tensor_overrides.h"

#include "llama.h"

#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace ternion {

struct ModelOptions {
    std::string path;
    std::vector<std::string> devices; // empty: CPU only
    int32_t gpu_layers = -1;          // -1: all, output layer included
    std::vector<TensorOverride> overrides; // on the CPU alone nothing can go elsewhere
    bool as_in_file = false;               // no layouts of the CPU's own beside a GPU: an expert cache copies experts as they are
    std::string fingerprint; // that the file has to have; empty: any
    bool mmap = true;
    std::string kernels;     // of the CPU, by name; empty: the fastest; "upstream" and "float32" as KernelChoice has them
    int32_t threads = 0;     // that will compute, which the choice of how weights are held depends on; 0: default_threads()
    PackCache packs;         // of weights that are packed for kernels of ours
    bool allow_refused_weights = false; // of a type that the device does not compute with: the CPU has them, and computes
    bool vocab_only = false; // no weights: tokenize and detokenize alone work
    bool dry = false;        // no memory either: where everything would go. On one thread until the model is gone, see PackedLoad
};

struct ModelInfo {
    std::string name;
    std::string architecture;
    std::string quantization;
    std::string pooling;
    uint64_t parameters = 0;
    uint64_t file_bytes = 0;
    int32_t trained_context = 0;
    int32_t vocabulary = 0;
    int32_t embedding_size = 0;
    int32_t layers = 0;
    int32_t experts = 0; // routed ones of a layer
    bool has_chat_template = false;
    bool recurrent = false;
    bool hybrid = false;
    bool encoder = false; // one of its own, beside or instead of the decoder
    bool causal = true;   // a token sees only those before it; otherwise there is no next token to predict
};

/// Immutable after load(), so any thread may use it.
class Model {
  public:
    /// Blocks for as long as the file takes. `progress` (0 to 1) is called on this thread; `cancel` may be set by any.
    static Result<std::shared_ptr<Model>> load(const ModelOptions & options, const std::function<void(float)> & progress,
                                               const std::atomic<bool> & cancel);

    llama_model * handle() const { return handle_.get(); }
    const llama_vocab * vocab() const { return llama_model_get_vocab(handle_.get()); }
    const ModelInfo & info() const { return info_; }
    int32_t gpu_layers() const { return gpu_layers_; }
    const PackedFacts & packed() const { return packed_load_.facts(); }
    const std::vector<WeightPlace> & weights() const { return weights_; }
    /// By name: of layers on a GPU, in the CPU's memory because the GPU does not compute with their type.
    const std::set<std::string> & refused_weights() const { return refused_weights_; }
    bool on_gpu() const { return gpu_layers_ > 0; }

    /// Rejects text that is longer than llama.cpp can count (2 GiB).
    Result<std::vector<llama_token>> tokenize(const std::string & text, bool add_special, bool parse_special) const;
    /// An invalid_arg that names the first id outside the vocabulary.
    Result<bool> check_tokens(const std::vector<llama_token> & tokens) const;
    /// Bytes, not necessarily UTF-8. Ids outside the vocabulary are an invalid_arg.
    Result<std::string> detokenize(const std::vector<llama_token> & tokens, bool special) const;
    /// The token's bytes; control tokens give none unless `special`.
    std::string piece(llama_token token, bool special) const;

  private:
    struct Free {
        void operator()(llama_model * model) const { llama_model_free(model); }
    };

    Model() = default;
    void read_info(const std::string & path);
    Result<bool> check_placement(const std::vector<Device> & devices, const TensorOverrides & overrides, bool allow_refused);

    std::unique_ptr<llama_model, Free> handle_;
    PackedLoad packed_load_;
    std::vector<WeightPlace> weights_;
    std::set<std::string> refused_weights_;
    ModelInfo info_;
    int32_t gpu_layers_ = 0;
};

} // namespace ternion
