#include "time_together.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace ternion {
namespace {

// Joins on every way out: a thread that could not be started must not leave the others behind.
class Team {
  public:
    Team(size_t n, const std::function<void(size_t)> & work) {
        threads_.reserve(n);
        try {
            for (size_t t = 0; t < n; ++t) {
                threads_.emplace_back([this, &work, t] {
                    ready_++;
                    while (!go_) {
                    }
                    if (!abandoned_) {
                        work(t);
                    }
                });
            }
        } catch (...) {
            abandoned_ = true;
            finish();
            throw;
        }
    }
    ~Team() { finish(); }
    Team(const Team &) = delete;
    Team & operator=(const Team &) = delete;

    double run() {
        while (ready_ < threads_.size()) {
        }
        const auto start = std::chrono::steady_clock::now();
        finish();
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }

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
    std::atomic<bool> abandoned_{false};
    std::vector<std::thread> threads_;
};

} // namespace

double time_together(size_t n_threads, const std::function<void(size_t)> & work) {
    return Team(n_threads, work).run();
}

} // namespace ternion
