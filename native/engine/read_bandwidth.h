// How fast this machine reads memory: the roof of every kernel that streams weights.
#pragma once

#include "error.h"

#include <atomic>
#include <cstddef>
#include <functional>

namespace ternion {

/// Bytes per second that `n_threads` threads read together from a buffer of 1 GiB, larger than most last-level caches; the
/// best of eight passes, since disturbance only ever slows one down. One thread fills the buffer, so on a machine with
/// several NUMA nodes this is the rate from one of them. Takes about a second. `cancel` may be set by any
/// thread. out_of_memory when there is no room for the buffer; aborted.
Result<double> read_bandwidth(size_t n_threads, const std::function<void(double)> & progress, const std::atomic<bool> & cancel);

} // namespace ternion
