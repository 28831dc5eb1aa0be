// A thread with a queue, for work that must block neither JavaScript nor an engine thread.
#pragma once

#include "thread.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>

namespace ternion {

/// Runs tasks one after the other, in the order of post(). Started by the first task.
class Worker {
  public:
    /// `cancelled` is true when the worker was stopped before the task's turn came: it then only reports that.
    using Task = std::function<void(bool cancelled)>;

    explicit Worker(std::string name) : name_(std::move(name)) {}
    ~Worker() { stop(); }
    Worker(const Worker &) = delete;
    Worker & operator=(const Worker &) = delete;

    /// Any thread, but not from a task. After stop() the task runs at once, cancelled; and at once, in the caller's thread, while the system
    /// refuses another one.
    void post(Task task);
    /// Waits for the running task; those behind it run cancelled. Idempotent; not from a task.
    void stop();

  private:
    void run();

    const std::string name_;
    std::mutex mutex_;
    std::condition_variable ready_;
    std::deque<Task> tasks_;
    std::atomic<bool> stopping_{false}; // written under mutex_
    Thread thread_;
    int in_place_ = 0; // tasks that run in the thread of who posted them, or wait for that
    std::mutex turn_;  // of the one task that runs; taken after mutex_ was let go
};

} // namespace ternion
