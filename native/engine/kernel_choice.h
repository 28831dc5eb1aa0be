// Which kernels a model's products are computed with.
#pragma once

#include "error.h"

#include "kernels/cpu/kernels.h"

#include <string>

namespace ternion {

/// Neither: upstream's.
struct KernelChoice {
    const kernels::Kernels * packed = nullptr; // ours, that weights are packed for
    bool float32 = false;                      // the reference that rounds no activations
};

/// The fastest of this processor for "". Unknown names are an invalid_arg with the known ones.
Result<KernelChoice> kernels_by_name(const std::string & name);

} // namespace ternion
