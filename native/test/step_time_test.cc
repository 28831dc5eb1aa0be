// Steps that are measured before a model is loaded.
#include "check.h"

#include "engine/step_time.h"

#include <cmath>

using namespace ternion;

namespace {

double sum(const LayerCuts & cuts, const std::vector<int32_t> & kind, double constant, const std::vector<double> & layer) {
    double total = 0.0;
    for (size_t i = 0; i < cuts.layers.size(); ++i) {
        double time = constant;
        for (int32_t at = 0; at + 1 < cuts.layers[i]; ++at) {
            time += layer[static_cast<size_t>(kind[static_cast<size_t>(at)])];
        }
        total += cuts.factors[i] * time;
    }
    return total;
}

void cuts_tell_the_whole() {
    const std::vector<int32_t> dense(16, 0);
    std::vector<int32_t> windowed, hybrid, led(24, 1);
    for (int i = 0; i < 34; ++i) {
        windowed.push_back(i % 6 == 5);
    }
    for (int i = 0; i < 40; ++i) {
        hybrid.push_back(i % 4 == 3);
    }
    led[0] = 0;
    for (const auto & kind : {dense, windowed, hybrid, led}) {
        const LayerCuts cuts = layer_cuts(kind);
        CHECK(cuts.layers.size() == cuts.factors.size());
        CHECK(cuts.layers.back() <= 12);
        double whole = 0.3;
        const std::vector<double> layer{1.0, 5.0};
        for (size_t i = 0; i + 1 < kind.size(); ++i) {
            whole += layer[static_cast<size_t>(kind[i])];
        }
        CHECK(std::fabs(sum(cuts, kind, 0.3, layer) - whole) < 1e-6);
        for (const int32_t layers : cuts.layers) {
            CHECK(kind[static_cast<size_t>(layers - 1)] == kind.back());
        }
    }
    CHECK(layer_cuts({0, 1, 2, 3}).layers == std::vector<int32_t>{4}); // nothing repeats
    CHECK(layer_cuts({0}).layers == std::vector<int32_t>{1});
}

EngineOptions model(const char * path) {
    EngineOptions options;
    options.model.path = path;
    return options;
}

void steps_of_the_family() {
    const std::atomic<bool> cancel{false};
    const char * const dense = "models/tern-5m-tq2_0.gguf";
    for (const char * path : {dense, "models/tern-moe-6m-tq2_0.gguf", "models/tern-hybrid-random.gguf"}) {
        double last = 0.0;
        const auto times = step_times(model(path), {{1, 0}, {1, 4096}, {256, 0}, {1, 16384}}, [&](double done) { CHECK(done >= last); last = done; }, cancel);
        CHECK(times);
        if (!times) {
            std::fprintf(stderr, "%s: %s\n", path, times.error().message.c_str());
            continue;
        }
        const auto & points = times->points;
        CHECK(points.size() == 4 && times->threads > 0 && times->stand_in_bytes > 0);
        for (const StepTime & time : points) {
            std::printf("%s: %u tokens at %u: %.3f ms, %u steps\n", path, time.point.tokens, time.point.depth, 1e3 * time.seconds, time.steps);
            CHECK(time.seconds > 0.0 && time.steps > 0);
        }
        CHECK(points[2].seconds > points[0].seconds);
        if (path == dense) {
            CHECK(points[3].seconds > 1.5 * points[0].seconds); // cells are read
        }
    }
}

void refusals() {
    const std::atomic<bool> cancel{false}, cancelled{true};
    const auto code = [](const Result<StepTimes> & times) { return times ? ErrorCode::internal : times.error().code; };
    CHECK(code(step_times(model("models/tern-5m-tq2_0.gguf"), {{0, 0}}, [](double) {}, cancel)) == ErrorCode::invalid_arg);
    CHECK(code(step_times(model("models/tern-5m-tq2_0.gguf"), {{513, 0}}, [](double) {}, cancel)) == ErrorCode::invalid_arg);
    CHECK(code(step_times(model("models/tern-embedding-random.gguf"), {{1, 0}}, [](double) {}, cancel)) == ErrorCode::invalid_arg);
    CHECK(code(step_times(model("models/none.gguf"), {{1, 0}}, [](double) {}, cancel)) == ErrorCode::model_not_found);
    CHECK(code(step_times(model("models/tern-5m-tq2_0.gguf"), {{1, 0}}, [](double) {}, cancelled)) == ErrorCode::aborted);
}

} // namespace

int main(int argc, char ** argv) {
    if (argc > 1) { // files to be measured by hand
        const std::atomic<bool> cancel{false};
        for (int i = 1; i < argc; ++i) {
            const auto times = step_times(model(argv[i]), {{1, 0}, {1, 4096}, {512, 0}, {512, 4096}}, [](double) {}, cancel);
            CHECK(times);
            for (size_t p = 0; times && p < times->points.size(); ++p) {
                const StepTime & time = times->points[p];
                std::printf("%s: %u tokens at %u: %.3f ms, %.1f tokens/s, %u steps%s\n", argv[i], time.point.tokens, time.point.depth, 1e3 * time.seconds,
                            time.point.tokens / time.seconds, time.steps, time.whole_model ? "" : ", cut");
            }
        }
        return finish_tests();
    }
    cuts_tell_the_whole();
    steps_of_the_family();
    refusals();
    return finish_tests();
}
