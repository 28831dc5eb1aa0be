#include "engine.h"

#include "fingerprint.h"

namespace ternion {

Result<std::unique_ptr<Engine>> Engine::load(const EngineOptions & options, const std::function<void(float)> & progress,
                                             const std::atomic<bool> & cancel) {
    auto model = Model::load(options.model, progress, cancel);
    if (!model) {
        return model.error();
    }
    if ((*model)->info().encoder) {
        return Error{ErrorCode::model_unsupported, "models with a separate encoder (T5 and the like) are not supported"};
    }
    const auto identity = fingerprint(options.model.path);
    if (!identity) {
        return identity.error();
    }
    ContextOptions context_options = options.context;
    context_options.fingerprint = to_text(*identity);
    auto context = Context::create(*model, context_options);
    if (!context) {
        return context.error();
    }
    if (cancel) {
        return Error{ErrorCode::aborted, "loading was aborted"};
    }
    return std::unique_ptr<Engine>(new Engine(std::move(*model), std::move(*context), options.context));
}

void Engine::stop() {
    side.stop();
    context->stop();
}

} // namespace ternion
