#include "thread_governor.h"

#include <algorithm>

namespace ternion {
namespace {

constexpr double first_pause_us = 50'000.0;
constexpr double longest_pause_us = 2'000'000.0;
constexpr double suspicious = 1.25; // wide steps this much slower than they were: something takes our cores
constexpr double forget = 1.01;     // per window: contexts grow, and steps with them

} // namespace

void ThreadGovernor::enter(Mode mode) {
    mode_ = mode;
    steps_ = 0;
    sum_us_ = 0.0;
}

void ThreadGovernor::record(Duration took, int32_t sequences) {
    if (threads_ <= 1) {
        return;
    }
    if (sequences != shape_) {
        shape_ = sequences;
        wide_us_ = narrow_us_ = wide_good_us_ = 0.0;
        pause_us_ = 0.0;
        enter(Mode::wide);
        return; // the first step of a shape also builds its graph
    }
    const double us = std::chrono::duration<double, std::micro>(took).count();
    steps_++;
    sum_us_ += us;
    if (mode_ == Mode::narrow) {
        paused_us_ += us;
    }
    if (!(steps_ >= window_steps && sum_us_ >= window_us) && sum_us_ < long_window_us) {
        return;
    }
    const double per_step = sum_us_ / steps_;

    switch (mode_) {
        case Mode::wide:
            wide_us_ = per_step;
            if (wide_good_us_ == 0.0) { // compare once at the start: there may never have been an undisturbed window
                wide_good_us_ = per_step;
                enter(Mode::probe_narrow);
                return;
            }
            if (per_step > suspicious * wide_good_us_) {
                enter(Mode::probe_narrow);
                return;
            }
            wide_good_us_ = std::min(wide_good_us_ * forget, per_step);
            enter(Mode::wide);
            return;
        case Mode::probe_narrow:
            narrow_us_ = per_step;
            if (narrow_us_ < wide_us_) {
                pause_us_ = first_pause_us;
                paused_us_ = 0.0;
                enter(Mode::narrow);
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
                pause_us_ = std::min(pause_us_ * 2.0, longest_pause_us);
                paused_us_ = 0.0;
                enter(Mode::narrow);
            }
            return;
    }
}

} // namespace ternion
