#include "check.h"

#include "engine/thread_governor.h"

#include <cmath>
#include <functional>

using ternion::ThreadGovernor;
using namespace std::chrono_literals;

namespace {

// A machine in microseconds: how long a step takes at a time, on all threads and on one.
struct Machine {
    std::function<double(double now)> wide, narrow;
};

struct Run {
    ThreadGovernor governor{2};
    ThreadGovernor::Clock::time_point now{1s};

    // Decodes for so long and returns the steps per millisecond.
    double decode(const Machine & machine, double us, int32_t sequences = 1) {
        double at = 0.0;
        int steps = 0;
        while (at < us) {
            const double took = governor.threads() > 1 ? machine.wide(at) : machine.narrow(at);
            at += took;
            const auto duration = std::chrono::nanoseconds(static_cast<int64_t>(took * 1000.0));
            now += duration;
            governor.record(duration, sequences, now);
            steps++;
        }
        return 1000.0 * steps / at;
    }
};

std::function<double(double)> always(double us) {
    return [us](double) { return us; };
}

// The two sizes that the bench knows: 19 M and 1.1 B weights on two cores.
const Machine small{always(260.0), always(420.0)};
const Machine large{always(15'500.0), always(17'500.0)};
const Machine small_busy{always(6'000.0), always(430.0)};
const Machine large_busy{always(31'000.0), always(17'800.0)};

void undisturbed_it_is_wide() {
    CHECK(Run().decode(small, 500e3) > 0.97 / 0.260);
    CHECK(Run().decode(large, 5e6) > 0.97 / 15.5);
}

void beside_a_busy_neighbour_it_is_narrow() {
    CHECK(Run().decode(small_busy, 1e6) > 0.90 / 0.430);
    CHECK(Run().decode(large_busy, 3e6) > 0.90 / 17.8);
}

void a_short_disturbance_costs_little() {
    Run run;
    run.decode(small, 100e3);
    // Every 100 ms something takes a core for 3 ms.
    const Machine blips{[](double at) { return std::fmod(at, 100e3) < 3e3 ? 1500.0 : 260.0; }, always(420.0)};
    CHECK(run.decode(blips, 2e6) > 0.88 / 0.260);
}

void it_comes_back() {
    Run run;
    run.decode(small_busy, 5e6);
    CHECK(run.governor.narrow());
    run.decode(small, 1.2e6);
    CHECK(!run.governor.narrow());
    CHECK(run.decode(small, 500e3) > 0.97 / 0.260);
}

void what_it_knew_before_an_idle_time_is_forgotten() {
    Run run;
    run.decode(small_busy, 5e6);
    run.now += 1s;
    CHECK(run.decode(small, 130e3) > 0.93 / 0.260);
}

void one_thread_stays_one() {
    ThreadGovernor governor(1);
    governor.record(1ms, 1, ThreadGovernor::Clock::time_point{1s});
    CHECK(governor.threads() == 1);
    CHECK(!governor.narrow());
}

} // namespace

int main() {
    undisturbed_it_is_wide();
    beside_a_busy_neighbour_it_is_narrow();
    a_short_disturbance_costs_little();
    it_comes_back();
    what_it_knew_before_an_idle_time_is_forgotten();
    one_thread_stays_one();
    return finish_tests();
}
