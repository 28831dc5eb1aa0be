#include "worker.h"

#include <system_error>

namespace ternion {

void Worker::post(Task task) {
    {
        std::lock_guard lock(mutex_);
        if (!stopping_) {
            try {
                if (!thread_.joinable()) {
                    thread_ = Thread([this] { run(); });
                }
                tasks_.push_back(std::move(task));
                ready_.notify_all();
                return;
            } catch (const std::system_error &) {
            }
        }
        in_place_++;
    }
    if (stopping_) {
        task(true); // it only reports that, and the running task may wait for who posted it
    } else {
        const std::lock_guard turn(turn_);
        task(stopping_);
    }
    task = nullptr;
    const std::lock_guard lock(mutex_);
    in_place_--;
    ready_.notify_all();
}

void Worker::stop() {
    Thread thread;
    {
        std::unique_lock lock(mutex_);
        stopping_ = true;
        thread.swap(thread_);
        ready_.notify_all();
        ready_.wait(lock, [&] { return in_place_ == 0; });
    }
    if (thread.joinable()) {
        thread.join();
    }
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
            lock.unlock();
            const std::lock_guard turn(turn_);
            task(stopping_);
        } // what it held is freed before anybody has to wait
        lock.lock();
    }
}

} // namespace ternion
