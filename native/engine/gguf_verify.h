// Reads every weight of a GGUF file and says which cannot be right.
#pragma once

#include "error.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace ternion {

struct TensorHealth {
    std::string name;
    std::string type;
    uint64_t blocks = 0;      // of a floating type: weights
    uint64_t not_finite = 0;  // blocks whose scale, or weights that, are NaN or infinite
    uint64_t zero_scales = 0; // blocks that are zero because their scale is
    bool checked = true;      // false: a type whose blocks are not known here
};

/// One entry per tensor. Blocks for as long as the disk takes; `cancel` may be set by any thread. model_not_found or
/// model_invalid for the file, and for one that ends within a tensor.
Result<std::vector<TensorHealth>> verify_gguf(const std::string & path, const std::function<void(double)> & progress, const std::atomic<bool> & cancel);

} // namespace ternion
