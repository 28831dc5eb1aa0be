#include "step_time.h"

#include "random_weights.h"
#include "sampler.h"
#include "stand_in.h"

#include "kernels/cpu/last_level_cache.h"

#include <../src/llama-batch.h>
#include <../src/llama-context.h>
#include <../src/llama-ext.h> // llama_graph_reserve
#include <../src/llama-model.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <functional>
#include <new>
#include <optional>

namespace ternion {
namespace {

constexpr uint32_t most_tokens = 2048; // of a step
constexpr uint32_t decoded = 64;      // tokens after a depth, at most
constexpr double enough_seconds = 0.4; // of steps at a point
constexpr double long_step = 0.6;      // seconds: fewer layers will do
constexpr size_t least_of_cut = 4;      // steps
constexpr double first_counts = 2.0;   // seconds: what a first step takes beside is little then
constexpr uint64_t device_cache = 256 << 20; // more than any GPU's

struct Timed {
    double seconds;
    double quickest;
    double unrest; // see StepTime
    uint32_t steps;
};

/// A context of the model, or of its first layers, that computes on a StandIn.
class Runner {
  public:
    Runner(std::shared_ptr<Model> model, std::unique_ptr<Context> context, std::unique_ptr<Sampler> sampler, const std::atomic<bool> & cancel)
        : model_(std::move(model)), lease_(context->threads()), context_(std::move(context)), sampler_(std::move(sampler)), cancel_(cancel),
          governor_(model_->on_gpu() ? 1 : context_->threads()) {
        batch_.allocate(most_tokens);
        // A context that was laid out dry knows how large its buffers would be, and has none.
        if (!llama_graph_reserve(handle(), std::min(most_tokens, llama_n_ubatch(handle())), 1, 1)) {
            throw std::bad_alloc();
        }
        llama_set_abort_callback(
            handle(), [](void * flag) { return static_cast<const std::atomic<bool> *>(flag)->load(std::memory_order_relaxed); }, const_cast<std::atomic<bool> *>(&cancel));
    }

    /// Of steps at a point, as many as take `seconds`, and `least`; one step before them does not count.
    Result<Timed> time(const StepPoint & point, double seconds, size_t least = 1) {
        std::vector<double> took;
        double sum = 0.0;
        double computed = 0.0; // seconds of processor time of each thread that took part
        const uint32_t end = point.depth + std::max(point.tokens, decoded);
        for (uint32_t position = end; took.size() < least + 1 || (sum < seconds && took.size() < 4096); position += point.tokens) {
            if (position + point.tokens > end) {
                if (!rewind(point.depth)) {
                    return cannot_rewind(point.depth);
                }
                position = point.depth;
                // A prompt's part follows a step of another shape, so its graph is laid out anew.
                if (point.tokens > 1) {
                    if (const auto other = step(1, position); !other) {
                        return other.error();
                    }
                    if (!rewind(point.depth)) {
                        return cannot_rewind(point.depth);
                    }
                }
            }
            const int32_t threads = threads_of(point.tokens);
            const std::clock_t before = std::clock();
            const auto one = step(point.tokens, position);
            if (!one) {
                return one.error();
            }
            if (took.empty() && *one > first_counts) {
                return Timed{*one, *one, 1.0, 1};
            }
            if (!took.empty()) {
                sum += *one;
                computed += static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC / threads;
            }
            took.push_back(*one);
        }
        took.erase(took.begin());
        // Threads of ggml's pool wait for each other awake: time that they did not get went to others.
        const double waited = model_->on_gpu() ? 1.0 : sum / std::max(computed, 1e-9);
        std::sort(took.begin(), took.end());
        const double mean = sum / static_cast<double>(took.size()); // of all: generations have slow steps, too
        return Timed{mean, took.front(), std::max({1.0, waited, took[took.size() / 2] / took[took.size() / 4]}), static_cast<uint32_t>(took.size())};
    }

  private:
    llama_context * handle() const { return context_->handle(); }
    static Error cannot_rewind(uint32_t depth) { return Error{ErrorCode::invalid_arg, "a context of " + std::to_string(depth) + " tokens cannot be laid out to be measured"}; }

    /// Makes the memory hold `depth` tokens, without computing them.
    bool rewind(uint32_t depth) {
        const llama_memory_t memory = llama_get_memory(handle());
        memory->clear(false);
        llama_batch_allocr tokens(model_->handle()->hparams.n_pos_per_embd());
        const uint32_t piece = std::min(most_tokens, llama_n_ubatch(handle())); // a window has no room for more
        for (uint32_t at = 0; at < depth;) {
            fill_batch(std::min(depth - at, piece), at);
            at += static_cast<uint32_t>(batch_.size());
            if (!tokens.init(batch_.get(), model_->handle()->vocab, memory, model_->handle()->hparams.n_embd_inp(), LLAMA_MAX_SEQ, false)) {
                return false;
            }
            const auto taken = memory->init_batch(tokens, piece, false);
            if (!taken || taken->get_status() != LLAMA_MEMORY_STATUS_SUCCESS) {
                return false;
            }
            do {
                if (!taken->apply()) {
                    return false;
                }
            } while (taken->next());
        }
        return true;
    }

    void fill_batch(uint32_t n, uint32_t position) {
        batch_.clear();
        const auto vocabulary = static_cast<uint64_t>(model_->info().vocabulary);
        for (uint32_t i = 0; i < n; ++i) { // always other ones: they choose other experts
            batch_.add(static_cast<llama_token>(random_.next() % vocabulary), static_cast<llama_pos>(position + i), 0, i + 1 == n);
        }
    }

    /// As a loaded model does it.
    int32_t threads_of(uint32_t n) const { return n == 1 ? governor_.threads() : context_->threads(); }

    Result<double> step(uint32_t n, uint32_t position) {
        fill_batch(n, position);
        const ThreadBudget::Turn turn; // no model of this process computes meanwhile
        const auto begin = std::chrono::steady_clock::now();
        llama_attach_threadpool(handle(), turn.pool(), turn.pool());
        const int32_t threads = threads_of(n);
        llama_set_n_threads(handle(), threads, threads);
        const int32_t status = llama_decode(handle(), batch_.get());
        if (status == 0) {
            llama_synchronize(handle());
            const auto now = std::chrono::steady_clock::now();
            if (n == 1) {
                governor_.record(now - begin, 1, now);
            }
            TokenLogprobs unused;
            (void) sampler_->sample(handle(), batch_.size() - 1, 0, unused);
        }
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        if (cancel_) {
            return Error{ErrorCode::aborted, "measuring was aborted"};
        }
        if (status != 0) {
            return Error{ErrorCode::internal, "a step of " + std::to_string(n) + " tokens cannot be computed to be measured: " + std::to_string(status)};
        }
        return seconds;
    }

    const std::shared_ptr<Model> model_;
    const ThreadBudget::Lease lease_;
    const std::unique_ptr<Context> context_;
    const std::unique_ptr<Sampler> sampler_;
    const std::atomic<bool> & cancel_;
    Batch batch_;
    RandomBits random_{1, "tokens"};
    ThreadGovernor governor_;
};

/// The first layers of a model stand for all of it while this lives.
class Cut {
  public:
    Cut(llama_model * model, int32_t layers) : model_(model), all_(model->hparams.n_layer_all) {
        model->hparams.n_layer_all = static_cast<uint32_t>(layers) + model->hparams.n_layer_nextn;
    }
    ~Cut() { model_->hparams.n_layer_all = all_; }
    Cut(const Cut &) = delete;
    Cut & operator=(const Cut &) = delete;

  private:
    llama_model * const model_;
    const uint32_t all_;
};

/// Whether its graph is one of layers that follow one another, so that it can end after any of them.
bool can_be_cut(const llama_model * model) {
    const auto & tensors = llama_internal_get_tensor_map(model);
    return model->hparams.n_layer_nextn == 0 &&
           std::none_of(tensors.begin(), tensors.end(), [](const auto & tensor) { return tensor.first.find("per_layer") != std::string::npos; });
}

class Measurement {
  public:
    Measurement(std::shared_ptr<Model> model, StandIn & stand_in, const ContextOptions & options, const std::atomic<bool> & cancel)
        : model_(std::move(model)), stand_in_(stand_in), options_(options), cancel_(cancel), all_(llama_model_n_layer(model_->handle())),
          cuts_(can_be_cut(model_->handle()) ? layer_cuts(stand_in_.kinds().kind) : LayerCuts{{all_}, {1.0}}) {}

    Result<std::vector<StepTime>> run(const std::vector<StepPoint> & points, const std::function<void(double)> & progress) {
        progress_ = progress;
        times_.clear();
        for (const StepPoint & point : points) {
            times_.push_back({point});
        }
        // By the first cut it is known which points take long. One context for each cut, for all points.
        std::vector<size_t> whole, cut;
        const int32_t first = cuts_.layers.front();
        auto ok = on(first, [&](Runner & runner) -> Result<bool> {
            for (size_t i = 0; i < points.size(); ++i) {
                const auto timed = runner.time(points[i], first == all_ ? enough_seconds : 0.0);
                if (!timed) {
                    return timed.error();
                }
                times_[i] = {points[i], timed->seconds, first == all_ ? timed->unrest : 1.0, timed->steps, first == all_}; // of cuts one step, which tells no unrest
                (timed->seconds * all_ / first > long_step ? cut : whole).push_back(i);
            }
            return true;
        });
        if (first == all_ || !ok) {
            return ok ? Result<std::vector<StepTime>>(times_) : ok.error();
        }
        for (const size_t i : cut) {
            times_[i].seconds = 0.0;
        }
        ok = add(whole, all_, 1.0);
        for (size_t i = 0; ok && i < cuts_.layers.size(); ++i) {
            ok = add(cut, cuts_.layers[i], cuts_.factors[i]);
        }
        return ok ? Result<std::vector<StepTime>>(times_) : ok.error();
    }

  private:
    /// What points take with the first `layers` layers, times `factor`, is added to what they take.
    Result<bool> add(const std::vector<size_t> & points, int32_t layers, double factor) {
        if (points.empty()) {
            return true;
        }
        return on(layers, [&](Runner & runner) -> Result<bool> {
            for (const size_t i : points) {
                StepTime & time = times_[i];
                const auto timed = runner.time(time.point, enough_seconds, layers == all_ ? 1 : least_of_cut);
                if (!timed) {
                    return timed.error();
                }
                time.seconds = layers == all_ ? timed->seconds : time.seconds + factor * timed->quickest; // what disturbed one of them would be multiplied
                time.unrest = std::max(time.unrest, timed->unrest);
                time.steps = timed->steps;
                time.whole_model = layers == all_;
                progress_(std::min(0.99, static_cast<double>(++done_) / static_cast<double>(times_.size() * (cuts_.layers.size() + 1))));
            }
            return true;
        });
    }

    Result<bool> on(int32_t layers, const std::function<Result<bool>(Runner &)> & work) {
        const Cut cut(model_->handle(), layers);
        auto context = Context::create_dry(model_, options_);
        if (!context) {
            return context.error();
        }
        if (auto ok = stand_in_.bind_cache((*context)->handle(), cancel_); !ok) {
            return ok;
        }
        auto sampler = Sampler::create(model_->handle(), {}, {});
        if (!sampler) {
            return sampler.error();
        }
        try {
            Runner runner(model_, std::move(*context), std::move(*sampler), cancel_);
            return work(runner);
        } catch (const std::bad_alloc &) {
            return Error{ErrorCode::out_of_memory, "there is no memory to measure the model's speed"};
        } catch (const std::exception & e) { // a driver's
            return Error{ErrorCode::device_lost, std::string("a step cannot be measured: ") + e.what()};
        }
    }

    const std::shared_ptr<Model> model_;
    StandIn & stand_in_;
    const ContextOptions options_;
    const std::atomic<bool> & cancel_;
    const int32_t all_;
    const LayerCuts cuts_;
    std::vector<StepTime> times_;
    std::function<void(double)> progress_;
    size_t done_ = 0;
};

} // namespace

Result<StepTimes> step_times(const EngineOptions & options, const std::vector<StepPoint> & points, const std::function<void(double)> & progress,
                             const std::atomic<bool> & cancel) {
    uint32_t cells = 0;
    const uint32_t most = std::min(most_tokens, options.context.ubatch > 0 ? static_cast<uint32_t>(options.context.ubatch) : 512u);
    for (const StepPoint & point : points) {
        if (point.tokens < 1 || point.tokens > most || point.depth > (1u << 24)) {
            return Error{ErrorCode::invalid_arg, "a step has 1 to " + std::to_string(most) + " tokens, after at most 2^24; found " + std::to_string(point.tokens) +
                                                     " after " + std::to_string(point.depth)};
        }
        cells = std::max(cells, point.depth + std::max(point.tokens, decoded));
    }
    ModelOptions dry = options.model;
    dry.dry = true;
    const auto model = Model::load(dry, {}, cancel);
    if (!model) {
        return model.error();
    }
    if ((*model)->info().encoder || !(*model)->info().causal) {
        return Error{ErrorCode::invalid_arg, options.model.path + ": a model that does not generate has no steps to measure"};
    }
    if ((*model)->handle()->pos_embd && cells > static_cast<uint32_t>((*model)->info().trained_context)) { // a row for each position, and no more
        return Error{ErrorCode::invalid_arg, options.model.path + ": the model knows " + std::to_string((*model)->info().trained_context) + " positions; found " + std::to_string(cells)};
    }
    ContextOptions context = options.context;
    context.context = context.kv_tokens = cells;
    context.sequences = 1;
    context.spare = 0;
    context.expert_cache_bytes = 0; // what it holds would depend on what is written
    context.count_experts = false;
    context.threads = context.threads > 0 ? context.threads : default_threads();
    auto stand_in = StandIn::make((*model)->handle(), options.model.devices.empty() ? 4 * kernels::last_level_cache() : device_cache, cancel);
    if (!stand_in) {
        return stand_in.error();
    }
    const auto times = Measurement(*model, **stand_in, context, cancel).run(points, progress);
    if (!times) {
        return times.error();
    }
    return StepTimes{*times, context.threads, (*stand_in)->bytes()};
}

} // namespace ternion
