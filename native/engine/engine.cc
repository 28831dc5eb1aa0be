#include "engine.h"

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
    auto context = Context::create(*model, options.context);
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
