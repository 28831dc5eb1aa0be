#include "vulkan/limit.h"

#include <map>
#include <mutex>

namespace ternion::vulkan {
namespace {

using Limit = void (*)(ggml_backend_dev_t, uint64_t);                    // patch 0019
using Allocated = void (*)(ggml_backend_dev_t, uint64_t *, uint64_t *); // likewise

template <typename F>
F function(ggml_backend_dev_t device, const char * name) {
    return reinterpret_cast<F>(ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), name));
}

// Never destroyed: threads may ask until the process is gone.
std::mutex & mutex() {
    static std::mutex * one = new std::mutex;
    return *one;
}
std::map<ggml_backend_dev_t, uint64_t> & limits() { // under mutex()
    static auto * map = new std::map<ggml_backend_dev_t, uint64_t>;
    return *map;
}

} // namespace

bool limit_memory(ggml_backend_dev_t device, uint64_t bytes) {
    const auto limit = function<Limit>(device, "ggml_backend_vk_device_limit");
    if (!limit) {
        return false;
    }
    std::lock_guard lock(mutex());
    limit(device, bytes);
    if (bytes == UINT64_MAX) {
        limits().erase(device);
    } else {
        limits()[device] = bytes;
    }
    return true;
}

std::optional<Limited> limited_memory(ggml_backend_dev_t device) {
    std::lock_guard lock(mutex());
    const auto found = limits().find(device);
    if (found == limits().end()) {
        return std::nullopt;
    }
    Limited limited{.limit_bytes = found->second};
    function<Allocated>(device, "ggml_backend_vk_device_allocated")(device, &limited.allocated_bytes, &limited.peak_bytes);
    return limited;
}

} // namespace ternion::vulkan
