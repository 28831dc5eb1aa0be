#pragma once

#include <cstddef>

namespace ternion::kernels {

/// Bytes of the cache of the last level that a core sees, 0 where the system does not tell.
size_t last_level_cache();

} // namespace ternion::kernels
