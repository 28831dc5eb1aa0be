// Operations that a device was to compute, and that the CPU computes because the device refuses them.
#pragma once

#include "llama.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace ternion {

struct RefusedOperation {
    std::string operation; // "MUL_MAT", "FLASH_ATTN_EXT" …
    std::string device;
    std::string types;   // of what it is made of and makes: "f16 × f32 → f32"
    std::string weight;  // of the first of them, if it is one that the device does not compute with
    int32_t layer = 0;   // of the first of them; as many as there are layers: the output
    uint32_t count = 0;  // in one graph
};

/// Of layers on a GPU, and of the output if there are such layers, in the graphs of a full prompt and of one token for each sequence.
/// What computes with a weight in the CPU's memory runs there on purpose, unless it is of `refused_weights`. `context` must not have
/// computed yet, or has to be between two steps; the scheduler is reset.
std::vector<RefusedOperation> refused_operations(llama_context * context, const std::set<std::string> & refused_weights);

} // namespace ternion
