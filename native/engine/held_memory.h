// What the system says that this process holds: of the CPU's memory, and of a GPU's where its driver tells.
#pragma once

#include "backend.h"

#include <cstdint>
#include <string>
#include <vector>

namespace ternion {

struct HeldMemory {
    std::string device;
    std::string source;      // "process", "fdinfo" (this process's share of a GPU) or "sysfs" (what all programs have of it)
    uint64_t bytes = 0;      // in memory, of the process's pages those of files too
    uint64_t file_bytes = 0; // of these pages of mapped files, which can be dropped and read again
};

/// The CPU's and those of `gpus` that the system tells about; a GPU that the CPU plays has the process's memory and is not among them.
/// Any thread; `root` as in host_memory().
std::vector<HeldMemory> held_memory(const std::vector<Device> & gpus, const std::string & root = "");

/// What is held in `after` and was not in `before`, of what both know from the same source; nothing is negative.
std::vector<HeldMemory> growth(const std::vector<HeldMemory> & before, const std::vector<HeldMemory> & after);

/// Gives what the allocator keeps of freed memory back to the system, as far as it can. Any thread; takes some milliseconds.
void return_freed_memory();

/// Someone takes or gives back memory of models as long as it lives. What the process grew by can be told to be one's own only if
/// nobody else did meanwhile. Any thread.
class MemoryChange {
  public:
    MemoryChange();
    ~MemoryChange();
    MemoryChange(const MemoryChange &) = delete;
    MemoryChange & operator=(const MemoryChange &) = delete;

    /// Nobody else began or was at it since this one began.
    bool alone() const;

  private:
    bool first_ = false;
    uint64_t number_ = 0;
};

} // namespace ternion
