#include "model_object.h"

#include "convert.h"

namespace ternion::binding {
namespace {

constexpr napi_type_tag model_tag = {0x7465726e696f6e01ULL, 0x6d6f64656c6f626aULL};

using Holder = std::shared_ptr<ModelObject>;

std::vector<llama_token> read_tokens(napi_env env, napi_value value) { return to_int32s(env, value); }

/// Of the host's memory; pages of a mapped file among them.
uint64_t host_bytes(const Placement & placement) {
    uint64_t bytes = 0;
    for (const DevicePlacement & place : placement.devices) {
        bytes += place.device == "cpu" ? place.weight_bytes + place.kv_bytes + place.state_bytes + place.compute_bytes : 0;
    }
    return bytes;
}

} // namespace

napi_value make_task(napi_env env, napi_value promise, std::shared_ptr<std::atomic<bool>> cancel) {
    using Cancel = std::shared_ptr<std::atomic<bool>>;
    auto * data = new Cancel(std::move(cancel));
    napi_value function = make_function(env, "cancel", [](napi_env e, napi_callback_info info) -> napi_value {
        **static_cast<Cancel *>(Call(e, info).data) = true;
        return nullptr;
    }, data);
    napi_add_finalizer(env, function, data, [](napi_env, void * d, void *) { delete static_cast<Cancel *>(d); }, nullptr, nullptr);
    napi_value task = make_object(env);
    set(env, task, "promise", promise);
    set(env, task, "cancel", function);
    return task;
}

napi_value ModelObject::create(napi_env env, std::unique_ptr<Engine> engine) {
    Environment & environment = Environment::of(env);
    Holder self(new ModelObject(environment, std::move(engine)));
    napi_value object = make_object(env);
    set(env, object, "info", make(env, self->engine_->model->info()));
    set(env, object, "fingerprint", self->engine_->context->fingerprint());
    const Placement placement = self->engine_->placement();
    set(env, object, "placement", make(env, placement));
    self->memory_.report(env, host_bytes(placement));

    const auto method = [&](const char * name, napi_callback callback) { set(env, object, name, make_function(env, name, callback)); };
    method("stats", guarded<stats>);
    method("tokenize", guarded<tokenize>);
    method("detokenize", guarded<detokenize>);
    method("render", guarded<render>);
    method("embed", guarded<embed>);
    method("logits", guarded<logits>);
    method("score", guarded<score>);
    method("cacheStats", guarded<cache_stats>);
    method("expertStats", guarded<expert_stats>);
    method("trimCache", guarded<trim_cache>);
    method("openSession", guarded<open_session>);
    method("forkSession", guarded<fork_session>);
    method("closeSession", guarded<close_session>);
    method("sessionTokens", guarded<session_tokens>);
    method("capture", guarded<capture>);
    method("adopt", guarded<adopt>);
    method("generate", guarded<generate>);
    method("drain", guarded<drain>);
    method("cancel", guarded<cancel>);
    method("onWake", guarded<on_wake>);
    method("dispose", guarded<dispose>);

    napi_wrap(env, object, new Holder(self), [](napi_env e, void * data, void *) {
        // The wake callback keeps a model alive until dispose() or the environment's end, so there is an engine here only
        // if none was ever set. Stopping blocks, so it happens elsewhere.
        auto * holder = static_cast<Holder *>(data);
        ModelObject & model = **holder;
        model.environment_.remove_model(&model);
        model.memory_.report(e, 0);
        if (model.engine_) {
            model.environment_.teardown.post([engine = std::shared_ptr<Engine>(std::move(model.engine_))](bool) mutable {
                engine->stop();
                const MemoryChange change;
                engine.reset();
            });
        }
        delete holder;
    }, nullptr, nullptr);
    napi_type_tag_object(env, object, &model_tag);
    environment.add_model(self.get());
    self->engine_->context->set_waker([environment = environment.shared_from_this(), weak = std::weak_ptr<ModelObject>(self)] {
        environment->post([weak](napi_env e) {
            if (const Holder model = weak.lock()) {
                model->wake(e);
            }
        });
    });
    return object;
}

void ModelObject::end() {
    if (engine_) {
        engine_->stop();
        engine_.reset();
    }
}

ModelObject & ModelObject::of(napi_env env, const Call & call) {
    bool ours = false;
    void * data = nullptr;
    if (napi_check_object_type_tag(env, call.self, &model_tag, &ours) != napi_ok || !ours || napi_unwrap(env, call.self, &data) != napi_ok) {
        throw ArgumentError{"native binding: called on something that is not a NativeModel"};
    }
    return **static_cast<Holder *>(data);
}

Engine * ModelObject::engine(napi_env env) const {
    if (!engine_ || disposing_) {
        napi_throw(env, make_error(env, Error{ErrorCode::disposed, "the model was disposed"}));
        return nullptr;
    }
    return engine_.get();
}

void ModelObject::wake(napi_env env) {
    if (engine_) {
        engine_->context->wake_taken();
    }
    napi_value callback = nullptr;
    if (wake_callback_ && napi_get_reference_value(env, wake_callback_, &callback) == napi_ok && callback) {
        call_back(env, callback);
    }
}

void ModelObject::release_generations() {
    for (; running_ > 0; --running_) {
        environment_.release();
    }
}

napi_value ModelObject::tokenize(napi_env env, const Call & call) {
    const Engine * engine = of(env, call).engine(env);
    if (!engine) {
        return nullptr;
    }
    napi_value promise;
    auto text = to_string(env, call[0]);
    const bool add_special = to_bool(env, call[1]);
    const bool parse_special = to_bool(env, call[2]);
    const Promise settled(env, promise);
    engine->context->post_text([model = engine->model, text = std::move(text), add_special, parse_special, settled](bool cancelled) {
        auto tokens = cancelled ? Result<std::vector<llama_token>>(Error{ErrorCode::disposed, "the model was disposed"})
                                : model->tokenize(text, add_special, parse_special);
        if (!tokens) {
            settled.reject(tokens.error());
            return;
        }
        settled.resolve([tokens = std::move(*tokens)](napi_env e) { return make_int32s(e, tokens.data(), tokens.size()); });
    });
    return promise;
}

napi_value ModelObject::detokenize(napi_env env, const Call & call) {
    const Engine * engine = of(env, call).engine(env);
    if (!engine) {
        return nullptr;
    }
    napi_value promise;
    auto tokens = read_tokens(env, call[0]);
    const bool special = to_bool(env, call[1]);
    const Promise settled(env, promise);
    engine->context->post_text([model = engine->model, tokens = std::move(tokens), special, settled](bool cancelled) {
        auto text = cancelled ? Result<std::string>(Error{ErrorCode::disposed, "the model was disposed"}) : model->detokenize(tokens, special);
        if (!text) {
            settled.reject(text.error());
            return;
        }
        settled.resolve([text = to_utf8(*text)](napi_env e) { return make(e, text); });
    });
    return promise;
}

napi_value ModelObject::render(napi_env env, const Call & call) {
    const Engine * engine = of(env, call).engine(env);
    if (!engine) {
        return nullptr;
    }
    napi_value promise;
    auto messages = read_messages(env, call[0]);
    const bool thinking = to_bool(env, call[1]);
    const Promise settled(env, promise);
    engine->context->render(std::move(messages), thinking, [settled](Result<std::string> text) {
        if (!text) {
            settled.reject(text.error());
            return;
        }
        settled.resolve([text = std::move(*text)](napi_env e) { return make(e, text); });
    });
    return promise;
}

napi_value ModelObject::embed(napi_env env, const Call & call) {
    Engine * engine = of(env, call).engine(env);
    if (!engine) {
        return nullptr;
    }
    napi_value promise;
    auto texts = to_strings(env, call[0]);
    const bool normalize = to_bool(env, call[1]);
    const Promise settled(env, promise);
    auto cancel = std::make_shared<std::atomic<bool>>(false);
    engine->side.embed(std::move(texts), normalize, cancel, [settled](Result<SideContext::Rows> rows) {
        if (!rows) {
            settled.reject(rows.error());
            return;
        }
        settled.resolve([rows = std::move(*rows)](napi_env e) {
            napi_value array = make_array(e, rows.size());
            for (size_t i = 0; i < rows.size(); ++i) {
                set_element(e, array, i, make_floats(e, rows[i].data(), rows[i].size()));
            }
            return array;
        });
    });
    return make_task(env, promise, std::move(cancel));
}

napi_value ModelObject::floats_of_tokens(napi_env env, const Call & call,
                                         void (SideContext::*work)(std::vector<llama_token>, SideContext::Cancel,
                                                                   std::function<void(Result<std::vector<float>>)>)) {
    Engine * engine = of(env, call).engine(env);
    if (!engine) {
        return nullptr;
    }
    napi_value promise;
    auto tokens = read_tokens(env, call[0]);
    const Promise settled(env, promise);
    auto cancel = std::make_shared<std::atomic<bool>>(false);
    (engine->side.*work)(std::move(tokens), cancel, [settled](Result<std::vector<float>> values) {
        if (!values) {
            settled.reject(values.error());
            return;
        }
        settled.resolve([values = std::move(*values)](napi_env e) { return make_floats(e, values.data(), values.size()); });
    });
    return make_task(env, promise, std::move(cancel));
}

napi_value ModelObject::logits(napi_env env, const Call & call) { return floats_of_tokens(env, call, &SideContext::logits); }
napi_value ModelObject::score(napi_env env, const Call & call) { return floats_of_tokens(env, call, &SideContext::score); }

napi_value ModelObject::on_wake(napi_env env, const Call & call) {
    ModelObject & self = of(env, call);
    if (self.wake_callback_) {
        napi_delete_reference(env, self.wake_callback_);
        self.wake_callback_ = nullptr;
    }
    if (is_function(env, call[0])) {
        napi_create_reference(env, call[0], 1, &self.wake_callback_);
    }
    return nullptr;
}

// Stops on the teardown thread, lets JavaScript drain the last events, frees on the teardown thread, then resolves.
napi_value ModelObject::dispose(napi_env env, const Call & call) {
    ModelObject & self = of(env, call);
    napi_value promise;
    const Promise settled(env, promise);
    if (self.disposing_ || !self.engine_) {
        // Resolves once the engine has stopped; lib/model.ts asks once and shares the promise.
        self.environment_.teardown.post([settled](bool) { settled.resolve(nullptr); });
        return promise;
    }
    self.disposing_ = true;
    Environment & environment = self.environment_;
    environment.teardown.post([model = self.shared_from_this(), settled, &environment](bool) {
        model->engine_->stop();
        environment.post([model, settled, &environment](napi_env e) {
            model->wake(e);
            model->release_generations();
            environment.remove_model(model.get());
            model->memory_.report(e, 0);
            std::shared_ptr<Engine> engine = std::move(model->engine_);
            environment.teardown.post([engine = std::move(engine), settled](bool) mutable {
                {
                    const MemoryChange change;
                    engine.reset();
                    return_freed_memory();
                }
                settled.resolve(nullptr);
            });
        });
    });
    return promise;
}

} // namespace ternion::binding
