// The memory that this process may use: the machine's, or less where a control group says so.
#pragma once

#include <cstdint>
#include <string>

namespace ternion {

struct HostMemory {
    uint64_t total_bytes = 0; // 0: this system does not say
    /// What can be had without swapping: clean file pages count, of the machine as in MemAvailable.
    uint64_t available_bytes = 0;
    std::string limited_by; // the file of the control group that allows least; empty: the machine itself
    /// What can be had by swapping, as far as the groups allow it; 0 where one of version 1 limits memory.
    uint64_t free_swap_bytes = 0;
};

/// Reads Linux's /proc and the control groups, version 1 and 2, this process's and all above it. Any thread.
/// `root` stands in front of every path that is read: tests have trees of their own.
HostMemory host_memory(const std::string & root = "");

} // namespace ternion
