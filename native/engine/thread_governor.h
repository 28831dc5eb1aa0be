// How many threads a decode step should use when the machine is shared.
#pragma once

#include <chrono>
#include <cstdint>

namespace ternion {

/// Decode steps on several threads meet at a barrier after every node of the graph. Where another program (often the
/// application's own JavaScript) takes one of the cores, each barrier waits for a thread that is not running, and two
/// threads are slower than one. The governor measures: it runs wide, and when wide steps become slower than narrow
/// (single-thread) ones, it goes narrow and probes wide again after a pause that grows while probes keep failing.
/// Tokens do not depend on its choice: ggml splits rows between threads, never sums; the one place where upstream splits
/// a sum (attention over a long cache) is patched to split by position. Engine thread.
class ThreadGovernor {
  public:
    using Clock = std::chrono::steady_clock;

    explicit ThreadGovernor(int32_t threads = 1) : threads_(threads) {}

    /// Threads for the next decode step.
    int32_t threads() const { return narrow() ? 1 : threads_; }
    bool narrow() const { return threads_ > 1 && (mode_ == Mode::narrow || mode_ == Mode::probe_narrow); }

    /// A decode step of `sequences` tokens took this long and ended `now`. Steps of another shape than the last start a
    /// new comparison.
    void record(Clock::duration took, int32_t sequences, Clock::time_point now);

  private:
    enum class Mode { wide, probe_narrow, narrow, probe_wide };

    void enter(Mode mode);
    bool window_is_full() const;
    void end_window();
    void go_narrow(double pause_us);

    int32_t threads_;
    Mode mode_ = Mode::wide;
    int32_t shape_ = 0;
    Clock::time_point last_{};
    // The window: the steps since the mode was entered, or since the last window of a mode that goes on.
    int steps_ = 0;
    double sum_us_ = 0.0;
    // Microseconds per step; 0: unknown.
    double wide_us_ = 0.0;      // last window on all threads
    double narrow_us_ = 0.0;    // last window on one thread
    double wide_good_us_ = 0.0; // best wide window of late, forgetting slowly
    // Microseconds of narrow running until the next probe.
    double pause_us_ = 0.0;
    double paused_us_ = 0.0;
};

} // namespace ternion
