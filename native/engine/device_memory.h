// The memory of a GPU that has none of its own: one pool with the CPU, which must not be counted twice.
#pragma once

#include "host_memory.h"

#include <cstdint>
#include <string>

namespace ternion {

struct DeviceMemory {
    uint64_t total_bytes = 0, free_bytes = 0;
    uint64_t own_free_bytes = 0; // of that what the firmware carved out for it: not the host's
};

/// What such a GPU can have. `heaps`: the sum of what the driver's heaps say, which may overlap. The system grants no more than the
/// host has, beside what the firmware carved out for the GPU; amdgpu's own limits, of `pci_id` ("0000:03:00.0", may be empty), are
/// what it maps at all (GTT) and what TTM lets it pin. Any thread; `root` as in host_memory().
DeviceMemory shared_memory(const DeviceMemory & heaps, const HostMemory & host, const std::string & pci_id, const std::string & root = "");

} // namespace ternion
