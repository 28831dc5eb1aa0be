// How long the steps of a model take here, before it is loaded.
#pragma once

#include "engine.h"

#include <cstdint>
#include <vector>

namespace ternion {

/// A step of one sequence: so many tokens after `depth` others. One token is decoding, more are prefill; the last one gives logits, and a
/// token is chosen by them.
struct StepPoint {
    uint32_t tokens = 1;
    uint32_t depth = 0;
};

struct StepTime {
    StepPoint point;
    double seconds = 0.0;     // the mean
    double unrest = 1.0;      // how much longer than a quarter of the steps half of them took, or than the CPU's threads were let run; 1 on a quiet machine
    uint32_t steps = 0;       // that were measured
    bool whole_model = false; // all layers ran; else so many of each kind that the rest is known
};

struct StepTimes {
    std::vector<StepTime> points;
    int32_t threads = 0;
    uint64_t stand_in_bytes = 0; // of memory that the weights' place was taken by
};

/// llama.cpp itself computes the steps, with its scheduler and the kernels that the model would get, in memory that stands in for the
/// model's: the file's header is all that is read. What a layer costs is known from a few of each kind where a whole step would take long.
/// Takes a second or so for each point, and no model of this process computes meanwhile but between two steps. Errors as
/// Engine::dry_run's; out_of_memory; invalid_arg for a model that does not generate. Blocks; `cancel` may be set by any thread.
Result<StepTimes> step_times(const EngineOptions & options, const std::vector<StepPoint> & points, const std::function<void(double)> & progress,
                             const std::atomic<bool> & cancel);

/// Numbers of layers, smallest first, of models cut short whose times tell that of the whole one: a step's time is a constant, which the
/// last layer counts to, and one for each layer of a kind. With them the factors by which their times add up to the whole one's. A
/// single entry, the whole model, where no shorter ones tell. `kind`: of each layer.
struct LayerCuts {
    std::vector<int32_t> layers;
    std::vector<double> factors;
};
LayerCuts layer_cuts(const std::vector<int32_t> & kind);

} // namespace ternion
