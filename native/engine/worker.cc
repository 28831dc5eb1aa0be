#include "worker.h"

#include <system_error>

#ifdef __linux__
#include <pthread.h>
#endif

namespace ternion {

void name_thread(const char * name) {
#ifdef __linux__
    pthread_setname_np(pthread_self(), name);
#else
    (void) name;
#endif
}

void Worker::post(Task task) {
    {
        std::lock_guard lock(mutex_);
        if (!stopping_) {
            try {
                if (!thread_.joinable()) {
                    thread_ = std::thread([this] { run(); });
                }
            } catch (const std::system_error &) {
                task(false); // nobody else runs one meanwhile: that takes the lock
                return;
            }
            tasks_.push_back(std::move(task));
            ready_.notify_one();
            return;
        }
    }
    task(true);
}

void Worker::stop() {
    std::thread thread;
    {
        std::lock_guard lock(mutex_);
        stopping_ = true;
        thread.swap(thread_);
        ready_.notify_one();
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
            const bool cancelled = stopping_;
            lock.unlock();
            task(cancelled);
        } // what it held is freed before anybody has to wait
        lock.lock();
    }
}

} // namespace ternion
