#include "thread.h"

#include <exception>
#include <memory>
#include <system_error>
#include <utility>

#ifdef _WIN32
#define NOMINMAX
#include <windows.h>

#include <process.h>
#endif

namespace ternion {
namespace {

using Work = std::function<void()>;

void run(void * work) noexcept {
    const std::unique_ptr<Work> own(static_cast<Work *>(work));
    (*own)();
}

} // namespace

Thread & Thread::operator=(Thread && other) noexcept {
    if (running_) {
        std::terminate();
    }
    swap(other);
    return *this;
}

Thread::~Thread() {
    if (running_) {
        std::terminate();
    }
}

void Thread::swap(Thread & other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(running_, other.running_);
}

#ifdef _WIN32

void name_thread(const char *) {}

Thread::Thread(Work work) {
    auto own = std::make_unique<Work>(std::move(work));
    const auto start = [](void * argument) -> unsigned {
        run(argument);
        return 0;
    };
    const uintptr_t handle = _beginthreadex(nullptr, stack_bytes, start, own.get(), STACK_SIZE_PARAM_IS_A_RESERVATION, nullptr);
    if (handle == 0) {
        throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again)); // errno has several names for that
    }
    (void) own.release();
    handle_ = reinterpret_cast<Handle>(handle);
    running_ = true;
}

void Thread::join() {
    WaitForSingleObject(handle_, INFINITE);
    CloseHandle(handle_);
    running_ = false;
}

#else

void name_thread(const char * name) {
#ifdef __linux__
    pthread_setname_np(pthread_self(), name);
#else
    (void) name;
#endif
}

Thread::Thread(Work work) {
    auto own = std::make_unique<Work>(std::move(work));
    const auto start = [](void * argument) -> void * {
        run(argument);
        return nullptr;
    };
    pthread_attr_t attributes;
    int refused = pthread_attr_init(&attributes);
    if (refused == 0) {
        refused = pthread_attr_setstacksize(&attributes, stack_bytes);
        refused = refused ? refused : pthread_create(&handle_, &attributes, start, own.get());
        pthread_attr_destroy(&attributes);
    }
    if (refused != 0) {
        throw std::system_error(refused, std::generic_category());
    }
    (void) own.release();
    running_ = true;
}

void Thread::join() {
    pthread_join(handle_, nullptr);
    running_ = false;
}

#endif

} // namespace ternion
