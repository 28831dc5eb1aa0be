#include "environment.h"

#include "model_object.h"

#include "engine/log.h"

#include <utility>

namespace ternion::binding {

bool Environment::install(napi_env env) {
    std::shared_ptr<Environment> self(new Environment(env));
    if (napi_create_threadsafe_function(env, nullptr, nullptr, make(env, "ternion"), 0, 1, nullptr, nullptr, self.get(), on_wake,
                                        &self->wake_) != napi_ok) {
        return false;
    }
    napi_unref_threadsafe_function(env, self->wake_); // an idle addon does not keep the process alive
    auto * holder = new std::shared_ptr<Environment>(self);
    if (napi_set_instance_data(env, holder, [](napi_env, void * data, void *) { delete static_cast<std::shared_ptr<Environment> *>(data); },
                               nullptr) != napi_ok) {
        delete holder;
        return false;
    }
    // Hooks run last-in first-out, so this one runs before the thread-safe function's own.
    return napi_add_env_cleanup_hook(env, on_cleanup, self.get()) == napi_ok;
}

Environment & Environment::of(napi_env env) {
    void * data = nullptr;
    napi_get_instance_data(env, &data);
    return **static_cast<std::shared_ptr<Environment> *>(data);
}

void Environment::post(Task task) {
    std::lock_guard lock(mutex_);
    if (ended_) {
        return;
    }
    tasks_.push_back(std::move(task));
    if (!std::exchange(wake_pending_, true)) {
        napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking);
    }
}

void Environment::on_wake(napi_env env, napi_value, void * context, void *) {
    if (!env) {
        return; // the environment is ending
    }
    auto * self = static_cast<Environment *>(context);
    std::vector<Task> tasks;
    {
        std::lock_guard lock(self->mutex_);
        self->wake_pending_ = false;
        tasks.swap(self->tasks_);
    }
    for (const Task & task : tasks) {
        napi_handle_scope scope;
        if (napi_open_handle_scope(env, &scope) != napi_ok) {
            return;
        }
        task(env);
        napi_close_handle_scope(env, scope);
    }
    self->reap_threads();
}

void Environment::retain() {
    if (retained_++ == 0) {
        napi_ref_threadsafe_function(env_, wake_);
    }
}

void Environment::release() {
    if (--retained_ == 0) {
        napi_unref_threadsafe_function(env_, wake_);
    }
}

void Environment::run_thread(std::shared_ptr<std::atomic<bool>> cancel, std::function<void()> work) {
    reap_threads();
    auto load = std::make_unique<Load>();
    load->cancel = std::move(cancel);
    threads_.reserve(threads_.size() + 1); // nothing fails once the thread runs
    load->thread = Thread([entry = load.get(), work = std::move(work)] {
        name_thread("ternion-load");
        work();
        entry->done = true;
    });
    threads_.push_back(std::move(load));
}

void Environment::reap_threads() {
    std::erase_if(threads_, [](const std::unique_ptr<Load> & load) {
        if (!load->done) {
            return false;
        }
        load->thread.join();
        return true;
    });
}

void Environment::set_log_sink(int id) {
    if (log_sink_ != 0) {
        log_remove_sink(log_sink_);
    }
    log_sink_ = id;
}

void Environment::stop() {
    set_log_sink(0);
    std::vector<Task> dropped; // destroyed without the lock: what a task holds may post when it goes
    {
        std::lock_guard lock(mutex_);
        ended_ = true;
        dropped.swap(tasks_);
    }
    dropped.clear();
    for (const auto & load : threads_) {
        *load->cancel = true;
    }
    for (const auto & load : threads_) {
        load->thread.join();
    }
    threads_.clear();
    io.stop();
    teardown.stop();
    for (ModelObject * model : std::exchange(models_, {})) {
        model->end();
    }
}

// The end of a worker thread, or a normal end. process.exit on the main thread runs no such hooks: see lib/addon.ts.
void Environment::on_cleanup(void * data) {
    auto * self = static_cast<Environment *>(data);
    self->stop();
    napi_release_threadsafe_function(self->wake_, napi_tsfn_abort);
}

Promise::Promise(napi_env env, napi_value & promise) : environment_(Environment::of(env).shared_from_this()) {
    if (napi_create_promise(env, &deferred_, &promise) != napi_ok) {
        throw std::runtime_error("no promise could be created");
    }
    environment_->retain();
}

void Promise::resolve(std::function<napi_value(napi_env)> make_value) const {
    environment_->post([environment = environment_.get(), deferred = deferred_, make_value = std::move(make_value)](napi_env env) {
        environment->release();
        napi_value value = make_value ? make_value(env) : nullptr;
        bool pending = false;
        napi_is_exception_pending(env, &pending);
        if (pending) { // a result that is too large for an array
            napi_get_and_clear_last_exception(env, &value);
            napi_reject_deferred(env, deferred, value);
            return;
        }
        napi_resolve_deferred(env, deferred, value ? value : make_undefined(env));
    });
}

void Promise::reject(Error error) const {
    environment_->post([environment = environment_.get(), deferred = deferred_, error = std::move(error)](napi_env env) {
        environment->release();
        napi_reject_deferred(env, deferred, make_error(env, error));
    });
}

} // namespace ternion::binding
