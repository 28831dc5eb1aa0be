#include "last_level_cache.h"

#if defined(__linux__)
#include <algorithm>
#include <fstream>
#include <string>
#elif defined(__APPLE__)
#include <cstdint>
#include <sys/sysctl.h>
#endif

namespace ternion::kernels {

// What the C library says counts the whole package on some processors: 384 MB where a core sees 32.
size_t last_level_cache() {
#if defined(__linux__)
    static const size_t found = [] {
        size_t largest = 0;
        for (int i = 0; i < 8; ++i) {
            std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(i) + "/size");
            size_t size = 0;
            char unit = 0;
            if (file >> size) {
                file >> unit;
                largest = std::max(largest, size << (unit == 'K' ? 10 : unit == 'M' ? 20 : 0));
            }
        }
        return largest;
    }();
    return found;
#elif defined(__APPLE__)
    uint64_t bytes = 0;
    size_t length = sizeof(bytes);
    for (const char * name : {"hw.l3cachesize", "hw.perflevel0.l2cachesize", "hw.l2cachesize"}) {
        if (sysctlbyname(name, &bytes, &length, nullptr, 0) == 0 && bytes > 0) {
            return static_cast<size_t>(bytes);
        }
    }
    return 0;
#else
    return 0;
#endif
}

} // namespace ternion::kernels
