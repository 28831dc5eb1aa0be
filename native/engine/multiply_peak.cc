#include "multiply_peak.h"

#include "time_together.h"

#include "kernels/cpu/peak.h"

#include <algorithm>
#include <system_error>

namespace ternion {
namespace {

constexpr int passes = 8;
constexpr double pass_seconds = 0.03;

} // namespace

Result<MultiplyPeak> multiply_peak(size_t n_threads, const std::function<void(double)> & progress, const std::atomic<bool> & cancel) {
    const kernels::MultiplyAdd * known = kernels::multiply_add();
    if (!known) {
        return MultiplyPeak{};
    }
    try {
        const size_t n = std::max<size_t>(n_threads, 1);
        size_t steps = 1 << 14;
        double best = 0.0;
        for (int pass = 0; pass < passes;) {
            if (cancel) {
                return Error{ErrorCode::aborted, "measuring was aborted"};
            }
            const double seconds = time_together(n, [&](size_t) { known->run(steps); });
            if (seconds < pass_seconds) { // the start of the threads is in it, and must not count
                steps *= 2;
                continue;
            }
            best = std::max(best, static_cast<double>(n * steps * known->products) / seconds);
            ++pass;
            progress(static_cast<double>(pass) / passes);
        }
        return MultiplyPeak{known->instruction, best};
    } catch (const std::system_error & e) {
        return Error{ErrorCode::out_of_memory, std::string("the system starts no more threads: ") + e.what()};
    }
}

} // namespace ternion
