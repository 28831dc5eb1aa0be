// A loaded model with everything that works on it: what a binding holds.
#pragma once

#include "context.h"
#include "model.h"
#include "side_context.h"

#include <memory>

namespace ternion {

struct EngineOptions {
    ModelOptions model;
    ContextOptions context;
};

struct DryRun {
    ModelInfo info;
    Placement placement;
};

/// Members are public because there is no policy here; the order of destruction (contexts before weights) is the point.
class Engine {
  public:
    /// Blocks; see Model::load.
    static Result<std::unique_ptr<Engine>> load(const EngineOptions & options, const std::function<void(float)> & progress,
                                                const std::atomic<bool> & cancel);

    /// What load() would take, laid out by the real library without taking it. Nothing that needs the weights' bytes is checked.
    /// Errors as load()'s; blocks for some 100 ms, tries kernels like a load where their timings are not known.
    static Result<DryRun> dry_run(const EngineOptions & options, const std::atomic<bool> & cancel);

    /// Aborts everything, joins all threads. Afterwards only destruction is left to do. Idempotent, blocks.
    void stop();

    /// Any thread.
    Placement placement() const;

    const std::shared_ptr<Model> model;
    const std::unique_ptr<Context> context;
    SideContext side;

  private:
    Engine(std::shared_ptr<Model> model_, std::unique_ptr<Context> context_, const ContextOptions & options, std::vector<HeldMemory> taken)
        : model(std::move(model_)), context(std::move(context_)), side(model, context->threads(), options.kv_k, options.kv_v), taken_(std::move(taken)) {}

    const std::vector<HeldMemory> taken_;
};

} // namespace ternion
