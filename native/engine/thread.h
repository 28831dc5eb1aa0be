// A thread whose stack is large enough for what recurses on it, whatever the system's default is.
#pragma once

#include <functional>

#ifndef _WIN32
#include <pthread.h>
#endif

namespace ternion {

/// Names the calling thread for debuggers and profilers (15 characters at most on Linux).
void name_thread(const char * name);

/// As std::thread, but with a stack of its own size: the bounds on nesting (templates, grammars) are made for `stack_bytes`, and the
/// default is what `ulimit -s` says on glibc (2 MiB if unlimited), 512 KiB on macOS, 128 KiB on musl and 1 MiB on Windows.
class Thread {
  public:
    static constexpr size_t stack_bytes = 8 << 20; // reserved; only what is used takes memory

    Thread() = default;
    /// std::system_error if the system refuses one. What `work` throws ends the process.
    explicit Thread(std::function<void()> work);
    Thread(Thread && other) noexcept { swap(other); }
    Thread & operator=(Thread && other) noexcept; // not over one that is joinable
    ~Thread();                                    // not while joinable

    bool joinable() const { return running_; }
    void join();
    void swap(Thread & other) noexcept;

  private:
#ifdef _WIN32
    using Handle = void *;
#else
    using Handle = pthread_t;
#endif
    Handle handle_{};
    bool running_ = false;
};

} // namespace ternion
