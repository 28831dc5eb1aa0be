// Loading a model for the kernels that were chosen: packing its weights for ours, and keeping the packs.
#pragma once

#include "kernel_choice.h"
#include "pack_cache.h"
#include "thread.h"

#include "kernels/cpu/buffer_type.h"

#include "llama.h"

#include <atomic>
#include <memory>
#include <string>
#include <vector>

namespace ternion {

struct PackedLoadOptions {
    KernelChoice choice;
    PackCache cache;
    int32_t threads = 0; // that will compute; 0: default_threads()
};

/// Weights of one role and layer on one device.
struct WeightPlace {
    std::string device;
    std::string role;
    int32_t layer = -1; // -1: of no layer
    uint32_t tensors = 0;
    uint64_t bytes = 0; // as they are held
};

struct PackedFacts {
    std::string kernels = "upstream"; // or the name of ours, if any weight is packed for them, or "float32"
    std::vector<kernels::PackedKind> kinds;
    uint64_t bytes = 0;
    bool from_cache = false;
    std::vector<WeightPlace> places;
};

/// What became of one model's weights. Its threads end with it. With `no_alloc`, which only lays memory out, the thread that called
/// load() has to be the one that destroys it, and loads nothing else meanwhile: ggml goes on asking what kernels of ours would take.
class PackedLoad {
  public:
    /// The model, or null for the reasons that llama.cpp logs; `cancel` may be set by any thread. Packs that are new are written to the cache behind the caller's back.
    llama_model * load(const std::string & path, const llama_model_params & params, const PackedLoadOptions & options, const std::atomic<bool> & cancel);

    const PackedFacts & facts() const { return facts_; }

  private:
    /// Writes packs that are new to the cache, on a thread of its own.
    class Writer {
      public:
        ~Writer();
        void start(const PackCache & cache, const Fingerprint & model, const std::string & kernels, std::shared_ptr<kernels::PackedWeights> weights);

      private:
        std::atomic<bool> cancel_{false};
        Thread thread_;
    };

    void lay_out(const llama_model * model);

    PackedFacts facts_;
    std::unique_ptr<kernels::Loading> laying_out_;
    Writer writer_;
};

} // namespace ternion
