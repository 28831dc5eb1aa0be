#include "thread_budget.h"

#include <algorithm>
#include <string>
#include <system_error>

namespace ternion {

// Leaked: contexts of other Node environments may outlive static destruction.
ThreadBudget & ThreadBudget::instance() {
    static ThreadBudget * budget = new ThreadBudget;
    return *budget;
}

void ThreadBudget::wait_turn(std::unique_lock<std::mutex> & lock) {
    const uint64_t ticket = next_ticket_++;
    changed_.wait(lock, [&] { return serving_ == ticket; });
}

ThreadBudget::Lease::Lease(int threads) {
    ThreadBudget & budget = instance();
    std::unique_lock lock(budget.mutex_);
    budget.leases_++;
    if (threads <= budget.threads_) {
        return;
    }
    budget.wait_turn(lock); // nobody may be computing while the pool is replaced
    ggml_threadpool_t pool = nullptr;
    const bool wanted = threads > budget.threads_;
    if (wanted) {
        ggml_threadpool_params params = ggml_threadpool_params_default(threads);
        // How long workers spin for the next graph before they sleep; see vendor/patches for the unit. Decode steps
        // follow each other within microseconds, and an idle process must not use the CPU.
        params.poll = 1;
        pool = ggml_threadpool_new(&params);
    }
    if (pool) {
        if (budget.pool_) {
            budget.retired_.push_back(budget.pool_);
        }
        budget.pool_ = pool;
        budget.threads_ = threads;
        budget.generation_++;
    }
    budget.serving_++;
    budget.changed_.notify_all();
    if (wanted && !pool) {
        budget.end_lease(lock);
        throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again), std::to_string(threads) + " threads to compute on");
    }
}

ThreadBudget::Lease::~Lease() {
    std::unique_lock lock(instance().mutex_);
    instance().end_lease(lock);
}

void ThreadBudget::end_lease(std::unique_lock<std::mutex> & lock) {
    if (--leases_ > 0) {
        return;
    }
    wait_turn(lock);
    if (leases_ == 0 && pool_) { // somebody may have come while we waited
        ggml_threadpool_free(pool_);
        for (ggml_threadpool_t pool : retired_) {
            ggml_threadpool_free(pool);
        }
        retired_.clear();
        pool_ = nullptr;
        threads_ = 0;
        generation_++;
    }
    serving_++;
    changed_.notify_all();
}

ThreadBudget::Turn::Turn() {
    std::unique_lock lock(instance().mutex_);
    instance().wait_turn(lock);
}

ThreadBudget::Turn::~Turn() {
    {
        std::lock_guard lock(instance().mutex_);
        instance().serving_++;
    }
    instance().changed_.notify_all();
}

ggml_threadpool_t ThreadBudget::Turn::pool() const { return instance().pool_; }
uint64_t ThreadBudget::Turn::generation() const { return instance().generation_; }

} // namespace ternion
