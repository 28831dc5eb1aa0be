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

/// Before anything is taken: whether the file is the model that it was.
Result<bool> check_identity(const ModelOptions & options) {
    if (options.fingerprint.empty()) {
        return true;
    }
    const auto identity = fingerprint(options.path);
    if (!identity) {
        return identity.error();
    }
    if (to_text(*identity) == options.fingerprint) {
        return true;
    }
    return Error{ErrorCode::state_mismatch, options.path + " is another model than when it was loaded first; load it as a model of its own",
                 {{"setting", std::string("model")}, {"found", to_text(*identity)}, {"expected", options.fingerprint}, {"path", options.path}}};
}

} // namespace

Result<std::unique_ptr<Engine>> Engine::load(const EngineOptions & options, const std::function<void(float)> & progress,
                                             const std::atomic<bool> & cancel) {
    if (auto ok = check_identity(options.model); !ok) {
        return ok.error();
    }
    const MemoryChange change;
    const auto devices = find_gpu_devices(options.model.devices); // what is wrong with them, loading tells
    const std::vector<Device> gpus = devices ? *devices : std::vector<Device>();
    const auto before = held_memory(gpus);
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
    auto taken = change.alone() ? growth(before, held_memory(gpus)) : std::vector<HeldMemory>();
    return std::unique_ptr<Engine>(new Engine(std::move(*model), std::move(*context), options.context, std::move(taken)));
}

Result<DryRun> Engine::dry_run(const EngineOptions & options, const std::atomic<bool> & cancel) {
    const MemoryChange change;
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

Placement Engine::placement() const {
    Placement all = context->placement();
    all.taken = taken_;
    return all;
}

void Engine::stop() {
    side.stop();
    context->stop();
}

} // namespace ternion
