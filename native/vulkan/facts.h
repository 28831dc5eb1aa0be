// What Vulkan itself says of a device, beside what ggml tells.
#pragma once

#include "ggml-backend.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ternion::vulkan {

struct Facts {
    std::string driver;         // "NVIDIA", "radv", "llvmpipe" …
    std::string driver_version; // as the driver spells it
    std::string hardware_id;    // PCI vendor and device, "1002:13fe"; empty for software
    bool integrated = false;    // a GPU that has no memory of its own
    bool software = false;      // runs on the CPU
    /// Memory of its own, or, where it has none, all that it may have of the host's. Free: as far as the driver tells budgets.
    uint64_t total_bytes = 0, free_bytes = 0;
    uint64_t largest_allocation_bytes = 0;
    /// Those that change speed: "fp16", "bf16", "int8-dot" (in one instruction), "matrix-cores", "memory-budget".
    std::vector<std::string> capabilities;
};

/// Of a device of ggml's Vulkan backend; nothing of others. Creates no logical device. Any thread.
std::optional<Facts> facts_of(ggml_backend_dev_t device);

} // namespace ternion::vulkan
