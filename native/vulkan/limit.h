// Holding this process to less of a device's memory than there is (patch 0019).
#pragma once

#include "ggml-backend.h"

#include <cstdint>
#include <optional>

namespace ternion::vulkan {

struct Limited {
    uint64_t limit_bytes = 0;
    uint64_t allocated_bytes = 0; // in device memory by ggml's Vulkan backend, all models of the process together
    uint64_t peak_bytes = 0;      // since the limit was set
};

/// From now on no buffer in device memory is made that would take the sum beyond `bytes`; UINT64_MAX lifts the limit. False for devices
/// of other backends. Opens the device. Any thread, while nobody walks ggml's registry alone.
bool limit_memory(ggml_backend_dev_t device, uint64_t bytes);
/// Nothing while there is no limit. Any thread.
std::optional<Limited> limited_memory(ggml_backend_dev_t device);

} // namespace ternion::vulkan
