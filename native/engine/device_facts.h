// One device of ggml's as a user wants to know it.
#pragma once

#include "backend.h"

#include <string>
#include <vector>

namespace ternion {

/// "vulkan0": of a device that is not the CPU.
inline std::string device_id(const std::string & backend, int index) { return backend + std::to_string(index); }

/// `index` within its backend. Any thread, while the registry does not grow.
Device describe_device(ggml_backend_dev_t handle, const std::string & backend, int index);

/// What ggml's CPU kernels use here, in ggml's spelling: "AVX2", "AVX512_VNNI" …
std::vector<std::string> cpu_features();

} // namespace ternion
