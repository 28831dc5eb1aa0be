#include "read_bandwidth.h"

#include "time_together.h"

#include <algorithm>
#include <cstdint>
#include <new>
#include <system_error>
#include <vector>

namespace ternion {
namespace {

constexpr size_t bytes = size_t{1} << 30;
constexpr int passes = 8;

// Sixteen sums, so that the additions do not wait for each other and the compiler can use vectors.
uint64_t sum(const uint64_t * data, size_t n) {
    uint64_t lane[16] = {};
    for (size_t i = 0; i + 16 <= n; i += 16) {
        for (size_t j = 0; j < 16; ++j) {
            lane[j] += data[i + j];
        }
    }
    uint64_t total = 0;
    for (const uint64_t part : lane) {
        total += part;
    }
    return total;
}

} // namespace

Result<double> read_bandwidth(size_t n_threads, const std::function<void(double)> & progress, const std::atomic<bool> & cancel) {
    try {
        const std::vector<uint64_t> data(bytes / sizeof(uint64_t), 1);
        const size_t n = std::max<size_t>(n_threads, 1);
        double best = 0.0;
        for (int pass = 0; pass < passes; ++pass) {
            if (cancel) {
                return Error{ErrorCode::aborted, "measuring was aborted"};
            }
            std::atomic<uint64_t> total{0}; // looked at, so that the sums cannot be optimised away
            const size_t part = data.size() / n;
            const double seconds = time_together(n, [&](size_t t) { total += sum(data.data() + t * part, part); });
            if (total == 0) {
                return Error{ErrorCode::internal, "the memory that was read is not what was written"};
            }
            best = std::max(best, static_cast<double>(part * n * sizeof(uint64_t)) / seconds);
            progress((pass + 1.0) / passes);
        }
        return best;
    } catch (const std::bad_alloc &) {
        return Error{ErrorCode::out_of_memory, "no room for the gibibyte that is read"};
    } catch (const std::system_error & e) {
        return Error{ErrorCode::out_of_memory, std::string("the system starts no more threads: ") + e.what()};
    }
}

} // namespace ternion
