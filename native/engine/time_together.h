// Work that several threads begin at the same moment.
#pragma once

#include <cstddef>
#include <functional>

namespace ternion {

/// Runs work(0) … work(n_threads - 1) on threads of their own; seconds from the start of the first to the end of the last. Throws
/// std::system_error when the system starts no more threads; those that were started have then ended.
double time_together(size_t n_threads, const std::function<void(size_t)> & work);

} // namespace ternion
