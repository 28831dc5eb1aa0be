#include "engine.h"

#include "fingerprint.h"

namespace ternion {

namespace {

Result<std::shared_ptr<Model>> load_model(const ModelOptions & options, const std::function<void(float)> & progress, const std::atomic<bool> & cancel) {
    auto model = Model::load(options, progress, cancel);
    if (model && (*model)->info().encoder) {
        return Error{ErrorCode::model_unsupported, "models with a separate encoder (T5 and the like) are not supported"};
    }
    return model;
}

} // namespace

Result<std::unique_ptr<Engine>> Engine::load(const EngineOptions & options, const std::function<void(float)> & progress,
                                             const std::atomic<bool> & cancel) {
    auto model = load_model(options.model, progress, cancel);
    if (!model) {
        return model.error();
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

Result<DryRun> Engine::dry_run(const EngineOptions & options, const std::atomic<bool> & cancel) {
    ModelOptions dry = options.model;
    dry.dry = true;
    const auto model = load_model(dry, {}, cancel);
    if (!model) {
        return model.error();
    }
    if (cancel) {
        return Error{ErrorCode::aborted, "planning was aborted"};
    }
    auto placement = Context::lay_out(*model, options.context);
    if (!placement) {
        return placement.error();
    }
    return DryRun{(*model)->info(), std::move(*placement)};
}

void Engine::stop() {
    side.stop();
    context->stop();
}

} // namespace ternion
