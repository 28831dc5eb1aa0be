#include "thread_governor.h"

#include <algorithm>

namespace ternion {
namespace {

// A window ends when both its steps and its time are reached, or at the long time, whatever the steps …
constexpr int window_steps = 8;
constexpr double window_us = 4'000.0;
constexpr double long_window_us = 60'000.0;
// … or, on all threads, once it has taken this many times what it should: there is nothing left to find out.
constexpr double hopeless = 2.0;

constexpr double suspicious = 1.25; // wide steps this much slower than they were: something takes our cores
constexpr double forget = 1.01;     // per window: contexts grow, and steps with them

// Most disturbances are over in milliseconds, so the first pause is short. A failed probe is paid for by a pause of
// many times what it lost, so that probing a machine that stays busy costs a few percent.
constexpr double first_pause_us = 10'000.0;
constexpr double pause_per_loss = 16.0;
constexpr double longest_pause_us = 250'000.0; // what a disturbance that is over goes on costing

// After so long without a step, nothing is known about the machine.
constexpr auto stale = std::chrono::milliseconds(100);

} // namespace

void ThreadGovernor::enter(Mode mode) {
    mode_ = mode;
    steps_ = 0;
    sum_us_ = 0.0;
}

void ThreadGovernor::go_narrow(double pause_us) {
    pause_us_ = std::min(pause_us, longest_pause_us);
    paused_us_ = 0.0;
    enter(Mode::narrow);
}

bool ThreadGovernor::window_is_full() const {
    const double expected = mode_ == Mode::wide ? wide_good_us_ : mode_ == Mode::probe_wide ? narrow_us_ : 0.0;
    const bool lost = expected > 0.0 && sum_us_ >= window_us && sum_us_ >= hopeless * window_steps * expected;
    return lost || (steps_ >= window_steps && sum_us_ >= window_us) || sum_us_ >= long_window_us;
}

void ThreadGovernor::record(Clock::duration took, int32_t sequences, Clock::time_point now) {
    if (threads_ <= 1) {
        return;
    }
    const bool idle = now - took - last_ > stale;
    last_ = now;
    if (sequences != shape_) {
        shape_ = sequences;
        wide_us_ = narrow_us_ = wide_good_us_ = 0.0;
        enter(Mode::wide);
        return; // the first step of a shape also builds its graph
    }
    if (idle && mode_ == Mode::narrow) {
        pause_us_ = first_pause_us;
        enter(Mode::probe_wide);
        return; // this step was narrow
    }
    const double us = std::chrono::duration<double, std::micro>(took).count();
    steps_++;
    sum_us_ += us;
    if (mode_ == Mode::narrow) {
        paused_us_ += us;
    }
    if (window_is_full()) {
        end_window();
    }
}

void ThreadGovernor::end_window() {
    const double per_step = sum_us_ / steps_;
    switch (mode_) {
        case Mode::wide:
            wide_us_ = per_step;
            if (wide_good_us_ == 0.0) { // compare once at the start: there may never have been an undisturbed window
                wide_good_us_ = per_step;
                enter(Mode::probe_narrow);
            } else if (per_step > suspicious * wide_good_us_) {
                enter(Mode::probe_narrow);
            } else {
                wide_good_us_ = std::min(wide_good_us_ * forget, per_step);
                enter(Mode::wide);
            }
            return;
        case Mode::probe_narrow:
            narrow_us_ = per_step;
            if (narrow_us_ < wide_us_) {
                go_narrow(first_pause_us);
            } else {
                wide_good_us_ = std::max(wide_good_us_, wide_us_); // slower, but still the better of the two
                enter(Mode::wide);
            }
            return;
        case Mode::narrow:
            narrow_us_ = per_step;
            enter(paused_us_ >= pause_us_ ? Mode::probe_wide : Mode::narrow);
            return;
        case Mode::probe_wide:
            wide_us_ = per_step;
            if (wide_us_ < narrow_us_) {
                wide_good_us_ = wide_us_;
                enter(Mode::wide);
            } else {
                const double loss_us = sum_us_ - steps_ * narrow_us_;
                go_narrow(std::max(2.0 * pause_us_, pause_per_loss * loss_us));
            }
            return;
    }
}

} // namespace ternion
