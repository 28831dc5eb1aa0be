// Experts in device memory while all of them lie in host memory: logits, counts and bytes, beside a context without a cache.
//
//   expert_cache_test [MODEL [DEVICE]]
//
// Runs on the first GPU, which may be a software one; without any it says so.
#include "check.h"

#include "engine/expert_cache.h"
#include "engine/model.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

using namespace ternion;

namespace {

struct FreeContext {
    void operator()(llama_context * context) const { llama_free(context); }
};
using ContextPtr = std::unique_ptr<llama_context, FreeContext>;

ContextPtr make_context(const Model & model) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = 1024;
    params.n_batch = params.n_ubatch = 64;
    params.n_threads = params.n_threads_batch = 2;
    return ContextPtr(llama_init_from_model(model.handle(), params));
}

std::vector<llama_token> held_out(size_t n) {
    std::ifstream file("models/recipe/heldout/rows.tok", std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    std::vector<llama_token> tokens;
    for (size_t i = 0; i + 1 < bytes.size() && tokens.size() < n; i += 2) {
        tokens.push_back(static_cast<uint8_t>(bytes[i]) | static_cast<uint8_t>(bytes[i + 1]) << 8);
    }
    return tokens;
}

std::vector<float> step(llama_context * context, const Model & model, std::vector<llama_token> tokens) {
    CHECK(llama_decode(context, llama_batch_get_one(tokens.data(), static_cast<int32_t>(tokens.size()))) == 0);
    const float * logits = llama_get_logits_ith(context, -1);
    return {logits, logits + model.info().vocabulary};
}

uint64_t rows(const ExpertStats & stats, uint64_t ExpertLayerStats::* which) {
    uint64_t sum = 0;
    for (const ExpertLayerStats & layer : stats.layers) {
        sum += layer.*which;
    }
    return sum;
}

class Pair {
  public:
    Pair(const Model & model, uint64_t device_bytes) : model_(model), plain_(make_context(model)), cached_(make_context(model)) {
        auto made = ExpertCache::make(*model.handle(), {.device_bytes = device_bytes});
        CHECK(made);
        cache_ = std::move(*made);
        cache_->attach(cached_.get());
    }
    ~Pair() { cached_.reset(); }

    /// Through both; the largest difference of a logit, relative to the row's largest.
    float both(const std::vector<llama_token> & tokens) {
        const auto expected = step(plain_.get(), model_, tokens), found = step(cached_.get(), model_, tokens);
        float difference = 0.0f, largest = 0.0f;
        for (size_t i = 0; i < expected.size(); ++i) {
            difference = std::max(difference, std::fabs(expected[i] - found[i]));
            largest = std::max(largest, std::fabs(expected[i]));
        }
        same_ = std::memcmp(expected.data(), found.data(), expected.size() * sizeof(float)) == 0;
        llama_synchronize(cached_.get());
        cache_->between_steps();
        return difference / largest;
    }
    bool same() const { return same_; }
    ExpertStats stats() const { return cache_->stats(); }
    /// Until what is on its way has arrived.
    void settle() {
        for (uint64_t before = ~uint64_t{0}; stats().uploads != before;) {
            before = stats().uploads;
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
    }

  private:
    const Model & model_;
    std::unique_ptr<ExpertCache> cache_;
    ContextPtr plain_, cached_;
    bool same_ = false;
};

/// Bookkeeping that holds at any time.
void consistent(const ExpertStats & stats, uint64_t budget) {
    uint64_t bytes = 0;
    for (const auto & [device, taken] : stats.device_bytes) {
        bytes += taken;
    }
    CHECK(bytes <= budget);
    CHECK(stats.error.empty());
    for (const ExpertLayerStats & layer : stats.layers) {
        uint64_t chosen = 0;
        for (const uint64_t count : layer.counts) {
            chosen += count;
        }
        CHECK(layer.cached.size() <= layer.slots && layer.tokens > 0 && chosen % layer.tokens == 0);
    }
    const uint64_t routed = rows(stats, &ExpertLayerStats::device_rows) + rows(stats, &ExpertLayerStats::host_rows) + stats.single_rows;
    uint64_t counted = 0;
    for (const ExpertLayerStats & layer : stats.layers) {
        for (const uint64_t count : layer.counts) {
            counted += count;
        }
    }
    CHECK(routed == counted);
}

void decodes_as_without(const Model & model, uint64_t budget, float tolerance) {
    Pair pair(model, budget);
    const auto tokens = held_out(250);
    bool bits = true;
    float worst = 0.0f;
    worst = pair.both({tokens.begin(), tokens.begin() + 40}); // goes to the device whole
    CHECK(worst <= tolerance);
    for (size_t i = 40; i < 180; ++i) {
        worst = std::max(worst, pair.both({tokens[i]}));
        bits = bits && (pair.same() || rows(pair.stats(), &ExpertLayerStats::device_rows) > 0);
    }
    for (size_t i = 180; i + 7 < 250; i += 7) { // several at once
        worst = std::max(worst, pair.both({tokens.begin() + static_cast<long>(i), tokens.begin() + static_cast<long>(i) + 7}));
    }
    pair.settle();
    const ExpertStats stats = pair.stats();
    consistent(stats, budget);
    const uint64_t hits = rows(stats, &ExpertLayerStats::device_rows), misses = rows(stats, &ExpertLayerStats::host_rows);
    std::printf("held-out text: %llu hits, %llu misses, %llu uploads of %llu bytes, largest difference %.2g\n", static_cast<unsigned long long>(hits), static_cast<unsigned long long>(misses),
                static_cast<unsigned long long>(stats.uploads), static_cast<unsigned long long>(stats.uploaded_bytes), static_cast<double>(worst));
    CHECK(bits); // without a hit it is the same arithmetic
    CHECK(worst <= tolerance);
    CHECK(hits * 2 > hits + misses && misses > 0 && stats.uploads > 0);
    CHECK(stats.uploaded_bytes % stats.uploads == 0);
}

void a_recurring_token_is_computed_on_the_device(const Model & model, uint64_t budget, float tolerance) {
    Pair pair(model, budget);
    for (int i = 0; i < 40; ++i) {
        pair.both({100});
        pair.settle();
    }
    const ExpertStats before = pair.stats();
    float worst = 0.0f;
    for (int i = 0; i < 20; ++i) {
        worst = std::max(worst, pair.both({100}));
        pair.settle();
    }
    const ExpertStats after = pair.stats();
    consistent(after, budget);
    CHECK(worst <= tolerance);
    CHECK(rows(after, &ExpertLayerStats::device_rows) - rows(before, &ExpertLayerStats::device_rows) >= 9 * (rows(after, &ExpertLayerStats::host_rows) - rows(before, &ExpertLayerStats::host_rows)));
}

void refusals(const Model & model, const Model & on_device) {
    const auto little = ExpertCache::make(*model.handle(), {.device_bytes = 1000});
    CHECK(!little && little.error().message.find("bytes are the least") != std::string::npos);
    const auto none = ExpertCache::make(*on_device.handle(), {.device_bytes = 1 << 20});
    CHECK(!none && none.error().code == ErrorCode::invalid_arg);
    const auto counting = ExpertCache::make(*on_device.handle(), {});
    CHECK(counting && (*counting)->bytes().empty());
}

std::shared_ptr<Model> load(const std::string & path, const std::string & device, bool on_cpu) {
    ModelOptions options;
    options.path = path;
    options.devices = {device};
    options.as_in_file = on_cpu;
    if (on_cpu) {
        options.overrides = {{"_exps", "cpu", true}};
    }
    const std::atomic<bool> cancel{false};
    auto model = Model::load(options, {}, cancel);
    if (!model) {
        std::fprintf(stderr, "%s\n", model.error().message.c_str());
    }
    CHECK(model);
    return model ? *model : nullptr;
}

} // namespace

int main(int argc, char ** argv) {
    setenv("GGML_VK_DISABLE_F16", "1", 0); // sums in 32 bits, as the CPU's
    setenv("GGML_VK_VISIBLE_DEVICES", "0", 0);
    const std::string path = argc > 1 ? argv[1] : "models/tern-moe-6m-f16.gguf";
    std::string device = argc > 2 ? argv[2] : "";
    for (const Device & one : list_devices(true).devices) {
        device = device.empty() && one.id != "cpu" ? one.id : device;
    }
    if (device.empty()) {
        std::printf("no GPU: nothing tested\n");
        return 0;
    }
    const auto model = load(path, device, true), on_device = load(path, device, false);
    if (model && on_device) {
        const auto all = ExpertSlots::make(*model->handle(), uint64_t{1} << 30);
        CHECK(all);
        const uint64_t half = (*all)->bytes().begin()->second / 2;
        CHECK((*all)->slots() == (*all)->layers().back().experts);
        const float tolerance = path.find("f16") != std::string::npos || path.find("f32") != std::string::npos ? 1e-3f : 5e-2f;
        decodes_as_without(*model, half, tolerance);
        a_recurring_token_is_computed_on_the_device(*model, half, tolerance);
        refusals(*model, *on_device);
    }
    return finish_tests();
}
