#include "device_memory.h"

#include "read_number.h"

#include <algorithm>
#include <optional>

namespace ternion {
namespace {

uint64_t left(uint64_t total, uint64_t used) { return total - std::min(total, used); }

} // namespace

DeviceMemory shared_memory(const DeviceMemory & heaps, const HostMemory & host, const std::string & pci_id, const std::string & root) {
    DeviceMemory memory = heaps;
    const std::string amdgpu = root + "/sys/bus/pci/devices/" + pci_id + "/mem_info_";
    const auto number = [&](const char * name) { return pci_id.empty() ? std::nullopt : read_number(amdgpu + name); };
    const uint64_t carved = number("vram_total").value_or(0);
    const uint64_t carved_free = left(carved, number("vram_used").value_or(0));
    memory.own_free_bytes = carved_free;
    if (host.total_bytes > 0) {
        memory.total_bytes = std::min(memory.total_bytes, host.total_bytes + carved);
        memory.free_bytes = std::min(memory.free_bytes, host.available_bytes + carved_free);
    }
    if (auto mapped = number("gtt_total")) {
        if (const auto pages = read_number(root + "/sys/module/ttm/parameters/pages_limit")) {
            *mapped = std::min(*mapped, *pages * 4096);
        }
        memory.total_bytes = std::min(memory.total_bytes, carved + *mapped);
        memory.free_bytes = std::min(memory.free_bytes, carved_free + left(*mapped, number("gtt_used").value_or(0)));
    }
    return memory;
}

} // namespace ternion
