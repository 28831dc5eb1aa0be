// How many 8-bit multiply-adds this machine does: the roof of every kernel that computes.
#pragma once

#include "error.h"

#include <atomic>
#include <cstddef>
#include <functional>
#include <string>

namespace ternion {

struct MultiplyPeak {
    std::string instruction; // empty: none is known for this processor
    double products_per_second = 0.0;
};

/// Of `n_threads` threads together, each repeating the instruction on registers alone; the best of eight passes. Takes about a quarter
/// of a second. `cancel` may be set by any thread. out_of_memory when the system starts no more threads; aborted.
Result<MultiplyPeak> multiply_peak(size_t n_threads, const std::function<void(double)> & progress, const std::atomic<bool> & cancel);

} // namespace ternion
