// The NativeModel of lib/native.ts: an engine and its JavaScript face.
#pragma once

#include "environment.h"

#include "engine/engine.h"

#include <memory>

namespace ternion::binding {

/// Owned by the JavaScript object it is wrapped in. JavaScript thread only, except where said.
class ModelObject : public std::enable_shared_from_this<ModelObject> {
  public:
    /// The JavaScript object; takes the engine.
    static napi_value create(napi_env env, std::unique_ptr<Engine> engine);

    /// The environment ends: stops the engine here and now.
    void end();

  private:
    ModelObject(Environment & environment, std::unique_ptr<Engine> engine) : environment_(environment), engine_(std::move(engine)) {}

    static ModelObject & of(napi_env env, const Call & call);
    static napi_value stats(napi_env env, const Call & call);
    static napi_value tokenize(napi_env env, const Call & call);
    static napi_value detokenize(napi_env env, const Call & call);
    static napi_value render(napi_env env, const Call & call);
    static napi_value embed(napi_env env, const Call & call);
    static napi_value logits(napi_env env, const Call & call);
    static napi_value score(napi_env env, const Call & call);
    static napi_value floats_of_tokens(napi_env env, const Call & call,
                                       void (SideContext::*work)(std::vector<llama_token>, SideContext::Cancel,
                                                                 std::function<void(Result<std::vector<float>>)>));
    // session_calls.cc
    static napi_value cache_stats(napi_env env, const Call & call);
    static napi_value expert_stats(napi_env env, const Call & call);
    static napi_value trim_cache(napi_env env, const Call & call);
    static napi_value capture(napi_env env, const Call & call);
    static napi_value adopt(napi_env env, const Call & call);
    static napi_value open_session(napi_env env, const Call & call);
    static napi_value fork_session(napi_env env, const Call & call);
    static napi_value close_session(napi_env env, const Call & call);
    static napi_value session_tokens(napi_env env, const Call & call);
    static napi_value generate(napi_env env, const Call & call);
    static napi_value drain(napi_env env, const Call & call);
    static napi_value cancel(napi_env env, const Call & call);
    static napi_value on_wake(napi_env env, const Call & call);
    static napi_value dispose(napi_env env, const Call & call);

    Engine * engine(napi_env env) const; // throws into JavaScript and returns null once disposed
    void wake(napi_env env);
    void release_generations();

    Environment & environment_;
    std::unique_ptr<Engine> engine_;
    napi_ref wake_callback_ = nullptr;
    ReportedMemory memory_;
    int running_ = 0; // generations that keep the process alive
    bool disposing_ = false;
};

/// { promise, cancel } of a NativeTask.
napi_value make_task(napi_env env, napi_value promise, std::shared_ptr<std::atomic<bool>> cancel);

} // namespace ternion::binding
