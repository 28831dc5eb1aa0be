// Where a model's bytes are, or would be: by device and by what they are for.
#pragma once

#include "held_memory.h"
#include "packed_load.h"
#include "refused_operations.h"

#include "ggml.h"
#include "llama.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

// Not in upstream's public headers, but stable for years: every tensor of a model by name.
const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

namespace ternion {

struct DevicePlacement {
    std::string device;
    uint64_t weight_bytes = 0;  // of the tensors there, as they are held; a mapped file's other pages are not counted
    uint64_t kv_bytes = 0;      // keys and values
    uint64_t state_bytes = 0;   // of recurrent layers
    uint64_t compute_bytes = 0; // for the largest batch
    uint64_t expert_cache_bytes = 0; // slots for experts that lie in host memory
};

struct Placement {
    std::vector<DevicePlacement> devices;
    std::vector<WeightPlace> weights;
    PackedFacts packed;
    int32_t gpu_layers = 0, layers = 0;
    int32_t threads = 0;
    uint32_t context = 0, sequences = 0, kv_tokens = 0, sequence_ids = 0;
    std::vector<RefusedOperation> refused; // that the CPU computes in a device's place
    std::vector<HeldMemory> taken;         // what the system says the load took; of a dry run, and where it cannot be told, nothing
    uint32_t ubatch = 0;
    bool fused_attention = false;
    bool checkpoints = false; // what the model goes back to: see ContextOptions::checkpoint_bytes
};

/// What a tensor is for, by its name in GGUF: "embedding", "attention", "recurrent", "router", "experts", "shared-experts", "ffn",
/// "output" or "other".
const char * role_of(const std::string & tensor);

/// Of a model that is loaded, or that only had its memory laid out (no_alloc). Weights packed for kernels of ours count as they are
/// held, for which their kernels::Loading has to live still.
std::vector<WeightPlace> weight_places(const llama_model * model);

/// By device, the CPU first.
std::vector<DevicePlacement> device_placements(const llama_context * context, const std::vector<WeightPlace> & weights);

} // namespace ternion
