// How many threads a decode step should use when the machine is shared.
#pragma once

#include <chrono>
#include <cstdint>

namespace ternion {

/// Decode steps on several threads meet at a barrier after every node of the graph. Where another program (often the
/// application's own JavaScript) takes one of the cores, each barrier waits for a thread that is not running, and two
/// threads are slower than one. The governor measures: it runs wide, and when wide steps become slower than narrow
/// (single-thread) ones, it goes narrow and probes wide again after a pause that doubles while probes keep failing.
/// Tokens do not depend on its choice: ggml splits rows between threads, never sums; the one place where upstream splits
/// a sum (attention over a long cache) is patched to split by position. Engine thread.
class ThreadGovernor {
  public:
    using Duration = std::chrono::steady_clock::duration;

    explicit ThreadGovernor(int32_t threads = 1) : threads_(threads) {}

    /// Threads for the next decode step.
    int32_t threads() const { return narrow() ? 1 : threads_; }
    bool narrow() const { return threads_ > 1 && (mode_ == Mode::narrow || mode_ == Mode::probe_narrow); }

    /// A decode step of `sequences` tokens took this long. Steps of another shape than the last start a new comparison.
    void record(Duration took, int32_t sequences);

  private:
    enum class Mode { wide, probe_narrow, narrow, probe_wide };

    void enter(Mode mode);

    static constexpr int window_steps = 8;
    static constexpr double window_us = 4000.0; // a window ends when both its steps and its time are reached …
    static constexpr double long_window_us = 60000.0; // … or this time, whatever the steps

    int32_t threads_;
    Mode mode_ = Mode::wide;
    int32_t shape_ = 0;
    int steps_ = 0;
    double sum_us_ = 0.0;
    double wide_us_ = 0.0;   // per step, last window on all threads; 0: unknown
    double narrow_us_ = 0.0; // per step, last window on one thread; 0: unknown
    double wide_good_us_ = 0.0; // best wide window of late, forgetting slowly
    double pause_us_ = 0.0;     // narrow time until the next probe
    double paused_us_ = 0.0;
};

} // namespace ternion
