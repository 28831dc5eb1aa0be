// One per Node environment (main thread, each worker thread): the way back to JavaScript, and orderly ends.
#pragma once

#include "napi_util.h"

#include "engine/worker.h"

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

namespace ternion::binding {

class ModelObject;

/// Instance data of the addon. Created on the JavaScript thread, kept alive by whoever may still post to it.
class Environment : public std::enable_shared_from_this<Environment> {
  public:
    using Task = std::function<void(napi_env)>;

    /// Sets up the environment's instance data and its cleanup hook.
    static bool install(napi_env env);
    static Environment & of(napi_env env);

    /// Any thread: runs `task` on the JavaScript thread. At most one wake is outstanding, however many tasks wait.
    /// Dropped silently once the environment ends.
    void post(Task task);

    /// JavaScript thread. While more retains than releases were called, the process stays alive.
    void retain();
    void release();

    // What must end before the environment does.
    void add_model(ModelObject * model) { models_.insert(model); }
    void remove_model(ModelObject * model) { models_.erase(model); }
    /// Runs `work` on a thread of its own; `cancel` is set if the environment ends first. Throws std::system_error if the system refuses one.
    void run_thread(std::shared_ptr<std::atomic<bool>> cancel, std::function<void()> work);
    void set_log_sink(int id);
    /// Stops and joins every native thread of this environment: none may run when the environment, or the process, is
    /// taken apart. Bounded by one graph node on the CPU, one ubatch on a GPU. Idempotent.
    void stop();

    Worker io{"ternion-io"};             // devices, file headers
    Worker teardown{"ternion-teardown"}; // stops and frees engines

  private:
    struct Load {
        Thread thread;
        std::shared_ptr<std::atomic<bool>> cancel;
        std::atomic<bool> done{false};
    };

    explicit Environment(napi_env env) : env_(env) {}
    static void on_wake(napi_env env, napi_value, void * context, void *);
    static void on_cleanup(void * self);
    void reap_threads();

    napi_env env_;
    napi_threadsafe_function wake_ = nullptr;
    int retained_ = 0;
    int log_sink_ = 0;
    std::set<ModelObject *> models_;
    std::vector<std::unique_ptr<Load>> threads_;

    std::mutex mutex_; // guards what follows
    std::vector<Task> tasks_;
    bool wake_pending_ = false;
    bool ended_ = false;
};

/// A promise that another thread settles. Created on the JavaScript thread; keeps the process alive until settled.
class Promise {
  public:
    Promise(napi_env env, napi_value & promise);

    /// Any thread, once: `make` builds the value (or, returning null, an undefined) on the JavaScript thread.
    void resolve(std::function<napi_value(napi_env)> make) const;
    void reject(Error error) const;

  private:
    std::shared_ptr<Environment> environment_;
    napi_deferred deferred_ = nullptr;
};

} // namespace ternion::binding
