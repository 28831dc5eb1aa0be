#include "read_bandwidth.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <new>
#include <system_error>
#include <thread>
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

// Joins on every way out: a thread that could not be started must not leave the others behind.
class Readers {
  public:
    Readers(const std::vector<uint64_t> & data, size_t n) {
        const size_t part = data.size() / n;
        threads_.reserve(n);
        try {
            for (size_t t = 0; t < n; ++t) {
                threads_.emplace_back([this, from = data.data() + t * part, part] {
                    ready_++;
                    while (!go_) {
                    }
                    total_ += sum(from, part);
                });
            }
        } catch (...) {
            finish();
            throw;
        }
    }
    ~Readers() { finish(); }
    Readers(const Readers &) = delete;
    Readers & operator=(const Readers &) = delete;

    /// Seconds from the start of the first to the end of the last.
    double run() {
        while (ready_ < threads_.size()) {
        }
        const auto start = std::chrono::steady_clock::now();
        finish();
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }

    /// Read by the caller, so that the sums cannot be optimised away.
    uint64_t total() const { return total_; }

  private:
    void finish() {
        go_ = true;
        for (std::thread & thread : threads_) {
            thread.join();
        }
        threads_.clear();
    }

    std::atomic<size_t> ready_{0};
    std::atomic<bool> go_{false};
    std::atomic<uint64_t> total_{0};
    std::vector<std::thread> threads_;
};

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
            Readers readers(data, n);
            const double seconds = readers.run();
            if (readers.total() == 0) {
                return Error{ErrorCode::internal, "the memory that was read is not what was written"};
            }
            best = std::max(best, static_cast<double>(data.size() / n * n * sizeof(uint64_t)) / seconds);
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
