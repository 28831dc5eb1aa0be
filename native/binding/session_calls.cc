// What lib/session.ts and lib/model.ts ask of a model's sessions. JavaScript thread.
#include "convert.h"
#include "model_object.h"
#include "snapshot_object.h"

namespace ternion::binding {
namespace {

/// { promise, id }: the id is for cancel(), 0 if nothing was started.
napi_value running(napi_env env, const Promise & settled, napi_value promise, const Result<uint64_t> & id) {
    if (!id) {
        settled.reject(id.error());
    }
    napi_value task = make_object(env);
    set(env, task, "promise", promise);
    set(env, task, "id", id ? static_cast<double>(*id) : 0.0);
    return task;
}

} // namespace

napi_value ModelObject::stats(napi_env env, const Call & call) {
    const Engine * engine = of(env, call).engine(env);
    return engine ? make(env, engine->context->stats()) : nullptr;
}

napi_value ModelObject::expert_stats(napi_env env, const Call & call) {
    Engine * engine = of(env, call).engine(env);
    return engine ? make(env, engine->context->expert_stats()) : nullptr;
}

napi_value ModelObject::cache_stats(napi_env env, const Call & call) {
    const Engine * engine = of(env, call).engine(env);
    return engine ? make(env, engine->context->cache_stats()) : nullptr;
}

napi_value ModelObject::trim_cache(napi_env env, const Call & call) {
    const Engine * engine = of(env, call).engine(env);
    if (!engine) {
        return nullptr;
    }
    napi_value promise;
    const Promise settled(env, promise);
    engine->context->trim_cache([settled] { settled.resolve(nullptr); });
    return promise;
}

napi_value ModelObject::capture(napi_env env, const Call & call) {
    const Engine * engine = of(env, call).engine(env);
    if (!engine) {
        return nullptr;
    }
    napi_value promise;
    const auto session = static_cast<uint64_t>(to_number(env, call[0]));
    auto conversation = to_string(env, call[1]);
    auto only = is_nullish(env, call[2]) ? std::nullopt : std::optional(to_int32s(env, call[2]));
    const Promise settled(env, promise);
    const auto id = engine->context->capture(session, std::move(conversation), std::move(only), [settled](Result<SnapshotPtr> snapshot) {
        if (!snapshot) {
            settled.reject(snapshot.error());
            return;
        }
        settled.resolve([snapshot = std::move(*snapshot)](napi_env e) { return make_snapshot(e, snapshot); });
    });
    return running(env, settled, promise, id);
}

napi_value ModelObject::adopt(napi_env env, const Call & call) {
    const Engine * engine = of(env, call).engine(env);
    if (!engine) {
        return nullptr;
    }
    napi_value promise;
    const auto session = static_cast<uint64_t>(to_number(env, call[0]));
    auto snapshot = to_snapshot(env, call[1]);
    const Promise settled(env, promise);
    const auto id = engine->context->adopt(session, std::move(snapshot), [settled](Result<SnapshotPtr> done) {
        if (!done) {
            settled.reject(done.error());
            return;
        }
        settled.resolve(nullptr);
    });
    return running(env, settled, promise, id);
}

napi_value ModelObject::open_session(napi_env env, const Call & call) {
    const Engine * engine = of(env, call).engine(env);
    return engine ? make(env, static_cast<double>(engine->context->open_session(to_bool(env, call[0])))) : nullptr;
}

napi_value ModelObject::fork_session(napi_env env, const Call & call) {
    const Engine * engine = of(env, call).engine(env);
    if (!engine) {
        return nullptr;
    }
    const auto id = engine->context->fork_session(static_cast<uint64_t>(to_number(env, call[0])));
    if (!id) {
        napi_throw(env, make_error(env, id.error()));
        return nullptr;
    }
    return make(env, static_cast<double>(*id));
}

napi_value ModelObject::close_session(napi_env env, const Call & call) {
    const Engine * engine = of(env, call).engine(env);
    if (!engine) {
        return nullptr;
    }
    napi_value promise;
    const auto session = static_cast<uint64_t>(to_number(env, call[0]));
    const Promise settled(env, promise);
    engine->context->close_session(session, [settled] { settled.resolve(nullptr); });
    return promise;
}

napi_value ModelObject::session_tokens(napi_env env, const Call & call) {
    const Engine * engine = of(env, call).engine(env);
    return engine ? make(env, static_cast<double>(engine->context->session_tokens(static_cast<uint64_t>(to_number(env, call[0]))))) : nullptr;
}

napi_value ModelObject::generate(napi_env env, const Call & call) {
    ModelObject & self = of(env, call);
    const Engine * engine = self.engine(env);
    if (!engine) {
        return nullptr;
    }
    auto id = engine->context->generate(static_cast<uint64_t>(to_number(env, call[0])), read_request(env, call[1]));
    if (!id) {
        napi_throw(env, make_error(env, id.error()));
        return nullptr;
    }
    self.running_++;
    self.environment_.retain();
    return make(env, static_cast<double>(*id));
}

napi_value ModelObject::drain(napi_env env, const Call & call) {
    ModelObject & self = of(env, call);
    if (!self.engine_) {
        return make_array(env, 0);
    }
    const std::vector<Event> events = self.engine_->context->drain(static_cast<uint64_t>(to_number(env, call[0])));
    const bool last = !events.empty() && (events.back().kind == Event::Kind::finish || events.back().kind == Event::Kind::error);
    if (last && self.running_ > 0) {
        self.running_--;
        self.environment_.release();
    }
    return make(env, events);
}

napi_value ModelObject::cancel(napi_env env, const Call & call) {
    const ModelObject & self = of(env, call);
    if (self.engine_) {
        self.engine_->context->cancel(static_cast<uint64_t>(to_number(env, call[0])));
    }
    return nullptr;
}

} // namespace ternion::binding
