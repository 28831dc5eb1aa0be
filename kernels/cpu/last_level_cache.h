#pragma once

#include <cstddef>
#include <cstdint>

namespace ternion::kernels {

/// Bytes of the cache of the last level that a core sees, 0 where the system does not tell.
size_t last_level_cache();

/// Whether so many bytes of weights stay there from token to token, beside what else is computed with.
inline bool stay_in_cache(uint64_t bytes) {
    return bytes <= last_level_cache() / 4 * 3;
}

} // namespace ternion::kernels
