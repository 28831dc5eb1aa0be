// One CPU thread pool for the whole process. Every context computes on it, one step at a time.
#pragma once

#include "ggml-cpu.h"

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

namespace ternion {

/// Holds the process's ggml_threadpool. ggml can run one graph at a time on a pool, so a step takes a Turn first;
/// turns are granted in the order in which they were asked for. Any thread.
class ThreadBudget {
  public:
    static ThreadBudget & instance();

    /// Keeps a pool of at least `threads` threads alive; the last one to go frees it, and the process is without
    /// worker threads again.
    class Lease {
      public:
        /// Throws std::system_error if the system refuses a thread.
        explicit Lease(int threads);
        ~Lease();
        Lease(const Lease &) = delete;
        Lease & operator=(const Lease &) = delete;
    };

    /// The right to compute. While it lives, pool() does not change.
    class Turn {
      public:
        Turn();
        ~Turn();
        Turn(const Turn &) = delete;
        Turn & operator=(const Turn &) = delete;

        /// Never null while a Lease lives. One thread has a pool too (without workers): without it, ggml makes one per graph.
        ggml_threadpool_t pool() const;
        /// Changes whenever pool() is a different one.
        uint64_t generation() const;
    };

  private:
    ThreadBudget() = default;
    void wait_turn(std::unique_lock<std::mutex> & lock);
    void end_lease(std::unique_lock<std::mutex> & lock);

    std::mutex mutex_;
    std::condition_variable changed_;
    uint64_t next_ticket_ = 0;
    uint64_t serving_ = 0;
    int leases_ = 0;
    int threads_ = 0;
    uint64_t generation_ = 0;
    ggml_threadpool_t pool_ = nullptr;
    // Replaced by larger ones. A context that was attached to one looks at it once more when it is given the next, so
    // they live as long as any lease; their threads sleep.
    std::vector<ggml_threadpool_t> retired_;
};

} // namespace ternion
