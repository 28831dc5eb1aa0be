// Long work that JavaScript started: on a thread of its own, with progress and a way to cancel it.
#pragma once

#include "environment.h"
#include "model_object.h"

#include <atomic>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <utility>

namespace ternion::binding {

/// Progress on its way to JavaScript: only the newest value matters, so at most one task waits.
class Progress : public std::enable_shared_from_this<Progress> {
  public:
    /// JavaScript thread. `callback` may be null.
    Progress(napi_env env, napi_value callback) : environment_(Environment::of(env).shared_from_this()) {
        if (is_function(env, callback)) {
            napi_create_reference(env, callback, 1, &callback_);
        }
    }

    /// Any thread.
    void report(double fraction) {
        fraction_ = fraction;
        if (!callback_ || waiting_.exchange(true)) {
            return;
        }
        environment_->post([self = shared_from_this()](napi_env e) {
            self->waiting_ = false;
            napi_value callback = nullptr;
            if (self->callback_ && napi_get_reference_value(e, self->callback_, &callback) == napi_ok && callback) {
                napi_value argument = make(e, self->fraction_.load());
                call_back(e, callback, 1, &argument);
            }
        });
    }

    /// Any thread: no report comes after this.
    void end() {
        environment_->post([self = shared_from_this()](napi_env e) {
            if (self->callback_) {
                napi_delete_reference(e, std::exchange(self->callback_, nullptr));
            }
        });
    }

  private:
    const std::shared_ptr<Environment> environment_;
    napi_ref callback_ = nullptr; // JavaScript thread, but for the test whether there is one
    std::atomic<double> fraction_{0.0};
    std::atomic<bool> waiting_{false};
};

/// Of Thread's constructor; other errors of the system are as they are.
inline Error no_thread(const std::string & what, const std::system_error & e) {
    if (e.code() != std::errc::resource_unavailable_try_again) {
        return {ErrorCode::internal, what + ": " + e.what()};
    }
    return {ErrorCode::out_of_memory, what + ": the system refuses another thread; let the process have more, or end some"};
}

/// Long work on a thread of its own, with progress and a way to cancel it. `work` returns a Result; `make_value` turns its
/// value into JavaScript. Drivers may throw, and the system may refuse memory or a thread: both reject.
template <typename Work, typename MakeValue>
napi_value start_task(napi_env env, napi_value on_progress, const std::string & what, Work work, MakeValue make_value) {
    napi_value promise;
    auto progress = std::make_shared<Progress>(env, on_progress);
    const Promise settled(env, promise);
    auto cancel = std::make_shared<std::atomic<bool>>(false);
    auto run = [=, work = std::move(work)] {
        using Value = decltype(work([](double) {}, *cancel));
        Value result = [&]() -> Value {
            try {
                return work([&progress](double fraction) { progress->report(fraction); }, *cancel);
            } catch (const std::bad_alloc &) {
                return Error{ErrorCode::out_of_memory, what + ": not enough memory"};
            } catch (const std::system_error & e) {
                return no_thread(what, e);
            } catch (const std::exception & e) {
                return Error{ErrorCode::internal, what + ": " + e.what()};
            }
        }();
        progress->end();
        if (!result) {
            settled.reject(result.error());
            return;
        }
        // std::function wants copies; an engine has one owner, so values travel in a shared box.
        auto box = std::make_shared<std::decay_t<decltype(*result)>>(std::move(*result));
        settled.resolve([box, make_value](napi_env e) { return make_value(e, std::move(*box)); });
    };
    try {
        Environment::of(env).run_thread(cancel, std::move(run));
    } catch (const std::system_error & e) {
        progress->end();
        settled.reject(no_thread(what, e));
    }
    return make_task(env, promise, std::move(cancel));
}

} // namespace ternion::binding
