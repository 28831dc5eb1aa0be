#include "worker.h"

#include <system_error>

namespace ternion {

void Worker::post(Task task) {
    bool cancelled;
    {
        std::lock_guard lock(mutex_);
        cancelled = stopping_;
        if (!stopping_) {
            try {
                if (!thread_.joinable()) {
                    thread_ = Thread([this] { run(); });
                }
                tasks_.push_back(std::move(task));
                ready_.notify_one();
                return;
            } catch (const std::system_error &) {
            }
        }
    }
    if (cancelled) {
        task(true);
        return;
    }
    const std::lock_guard turn(turn_);
    task(false);
}

void Worker::stop() {
    Thread thread;
    {
        std::lock_guard lock(mutex_);
        stopping_ = true;
        thread.swap(thread_);
        ready_.notify_one();
    }
    if (thread.joinable()) {
        thread.join();
    }
    const std::lock_guard turn(turn_); // for a task in the thread of who posted it
}

void Worker::run() {
    name_thread(name_.c_str());
    std::unique_lock lock(mutex_);
    for (;;) {
        ready_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
        if (tasks_.empty()) {
            return;
        }
        {
            const Task task = std::move(tasks_.front());
            tasks_.pop_front();
            const bool cancelled = stopping_;
            lock.unlock();
            const std::lock_guard turn(turn_);
            task(cancelled);
        } // what it held is freed before anybody has to wait
        lock.lock();
    }
}

} // namespace ternion
