// The ways in which a set of kernels holds and multiplies a format, and which of them is the fastest here.
#pragma once

#include "../formats/pack.h"
#include "kernels.h"
#include "packed_memory.h"

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>

namespace ternion::kernels {

struct Way {
    const char * name;
    Layout layout;
    bool look_up; // one column's sums are tabulated
};

/// All of a set, the one first that suits where nobody has measured. All give the same bits.
std::span<const Way> ways_of(const Kernels & kernels, SourceFormat format);

/// A kind of matrix on this machine.
struct TimedCase {
    const Kernels & kernels;
    SourceFormat format;
    size_t rows;
    size_t columns;
    bool in_cache;    // all weights of the model stay in the last-level cache
    size_t n_threads; // that multiply it together
    /// Calls what it is given while nothing else of the process computes; empty: at once.
    std::function<void(const std::function<void()> &)> alone = {};
};

/// What ways are tried with in place of weights; made when it is needed first, and kept for the cases of one model.
using TrialMemory = std::unique_ptr<PackedMemory>;

/// Which way multiplies one column fastest, by trying: some 20 ms for each case that is new. Of the process; any thread.
class Timings {
  public:
    static Timings & instance();

    /// The first way where there is one only, or no memory to try others.
    const Way & fastest(const TimedCase & on, TrialMemory & memory);

    /// What was found out, a line each, for other processes on the same machine.
    std::string save();
    /// Lines of save(); what does not make sense is skipped, and what is known already stays.
    void restore(const std::string & lines);

  private:
    Timings() = default;

    std::mutex mutex_; // of what is known, and so that one thing is tried at a time
    std::map<std::string, std::string> known_; // from a case to the name of a way
};

} // namespace ternion::kernels
