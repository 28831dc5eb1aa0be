#include "expert_cache.h"

#include "log.h"
#include "thread.h"

#include <algorithm>
#include <cstdlib>

namespace ternion {
namespace {

/// ggml takes larger batches to the device as a whole, with the experts that they need: as its Vulkan backend reads it. 0: all batches.
uint32_t smaller_than_offload() {
    const char * set = std::getenv("GGML_OP_OFFLOAD_MIN_BATCH");
    const int least = set ? std::atoi(set) : 32;
    return static_cast<uint32_t>(std::clamp(least - 1, 0, 31));
}

int32_t & at(ggml_tensor & ids, int64_t plane, int64_t token, int64_t choice) {
    return *reinterpret_cast<int32_t *>(static_cast<char *>(ids.data) + static_cast<size_t>(plane) * ids.nb[2] + static_cast<size_t>(token) * ids.nb[1] + static_cast<size_t>(choice) * ids.nb[0]);
}

} // namespace

ExpertCache::Layer::Layer(ExpertCache & cache_, const ExpertLayer & tensors_)
    : cache(cache_), tensors(tensors_), policy(tensors_.experts, tensors_.device ? cache_.slots_->slots() : 0) {}

Result<std::unique_ptr<ExpertCache>> ExpertCache::make(const llama_model & model, const ExpertCacheOptions & options) {
    if (options.device_bytes > 0 && smaller_than_offload() == 0) {
        return Error{ErrorCode::invalid_arg, "an expert cache is of no use while GGML_OP_OFFLOAD_MIN_BATCH has every batch go to the device whole"};
    }
    auto slots = ExpertSlots::make(model, options.device_bytes);
    if (!slots) {
        return slots.error();
    }
    return std::unique_ptr<ExpertCache>(new ExpertCache(std::move(*slots), options));
}

ExpertCache::ExpertCache(std::unique_ptr<ExpertSlots> slots, const ExpertCacheOptions & options)
    : slots_(std::move(slots)), options_(options), most_tokens_(slots_->slots() > 0 ? smaller_than_offload() : 0) {
    for (const ExpertLayer & tensors : slots_->layers()) {
        auto layer = std::make_unique<Layer>(*this, tensors);
        in_order_.push_back(layer.get());
        layers_.emplace(tensors.parts[ExpertLayer::down].host, std::move(layer));
    }
}

ExpertCache::~ExpertCache() {
    {
        std::lock_guard lock(mutex_);
        stopping_ = true;
        work_.notify_one();
    }
    if (thread_.joinable()) {
        thread_.join();
    }
}

void ExpertCache::attach(llama_context * context) {
    llama_set_moe_router(context, this);
    branched_ = 0;
}

// ---- graphs and steps, engine thread ----------------------------------------------------------------------------------

int ExpertCache::route(ggml_context * context, ggml_cgraph * graph, int, ggml_tensor * cur, llama_moe_branch branches[2]) {
    const auto found = layers_.find(branches[0].down);
    const int64_t choices = branches[0].ids->ne[0], tokens = branches[0].ids->ne[1];
    if (found == layers_.end() || tokens == 0) {
        return 1;
    }
    Layer & layer = *found->second;
    const bool both = layer.policy.slots() > 0 && branched_ && tokens <= most_tokens_;
    // Taking the activations along has them copied to the CPU before the device's branch is queued.
    ggml_tensor * sources[] = {branches[0].ids, cur};
    ggml_tensor * ids = ggml_custom_4d(context, GGML_TYPE_I32, choices, tokens, both ? 2 : 1, 1, sources, both ? 2 : 1, decide, 1, &layer);
    ggml_format_name(ids, "ffn_moe_routed-%d", layer.tensors.layer);
    ggml_build_forward_expand(graph, ids);
    branches[0].ids = ggml_view_2d(context, ids, choices, tokens, ids->nb[1], 0);
    if (!both) {
        return 1;
    }
    branches[1] = branches[0];
    const auto slots = [&](ExpertLayer::Name name) { return layer.tensors.parts[name].slots; };
    branches[0] = {ggml_view_2d(context, ids, choices, tokens, ids->nb[1], ids->nb[2]),
                   slots(ExpertLayer::gate_up), slots(ExpertLayer::gate_up_b), slots(ExpertLayer::up),   slots(ExpertLayer::up_b),
                   slots(ExpertLayer::gate),    slots(ExpertLayer::gate_b),    slots(ExpertLayer::down), slots(ExpertLayer::down_b)};
    return 2;
}

void ExpertCache::decide(ggml_tensor * ids, int thread, int, void * user) {
    if (thread == 0) {
        auto & layer = *static_cast<Layer *>(user);
        layer.cache.decide(layer, *ids->src[0], *ids);
    }
}

void ExpertCache::decide(Layer & layer, const ggml_tensor & chosen, ggml_tensor & ids) {
    std::lock_guard lock(mutex_);
    const bool both = ids.ne[2] == 2;
    auto & from = const_cast<ggml_tensor &>(chosen);
    for (int64_t token = 0; token < ids.ne[1]; ++token) {
        chosen_.clear();
        for (int64_t choice = 0; choice < ids.ne[0]; ++choice) {
            const int32_t expert = at(from, 0, token, choice);
            chosen_.push_back(expert);
            const int32_t slot = both ? layer.policy.slot_of(static_cast<uint32_t>(expert)) : -1;
            at(ids, 0, token, choice) = slot >= 0 ? -1 : expert;
            if (both) {
                at(ids, 1, token, choice) = slot + 1;
                (slot >= 0 ? layer.device_rows : layer.host_rows)++;
            }
        }
        layer.policy.token(chosen_);
    }
    single_rows_ += both ? 0 : static_cast<uint64_t>(ids.ne[0] * ids.ne[1]);
}

void ExpertCache::between_steps() {
    if (slots_->slots() == 0) {
        return;
    }
    std::lock_guard lock(mutex_);
    if (!uploads_.empty() || !error_.empty()) {
        return;
    }
    std::vector<Upload> worthwhile;
    for (Layer * layer : in_order_) {
        if (const auto exchange = layer->policy.best()) {
            worthwhile.push_back({layer, *exchange});
        }
    }
    std::ranges::sort(worthwhile, std::greater{}, [](const Upload & upload) { return upload.exchange.gain / static_cast<double>(upload.layer->tensors.expert_bytes); });
    uint64_t bytes = 0;
    for (const Upload & upload : worthwhile) {
        bytes += upload.layer->tensors.expert_bytes;
        if (!uploads_.empty() && bytes > options_.upload_bytes) {
            break;
        }
        upload.layer->policy.begin(upload.exchange);
        uploads_.push_back(upload);
    }
    if (uploads_.empty()) {
        return;
    }
    if (!thread_.joinable()) {
        thread_ = std::thread([this] { run(); });
    }
    work_.notify_one();
}

// ---- uploads ----------------------------------------------------------------------------------------------------------

void ExpertCache::run() {
    name_thread("ternion-experts");
    std::unique_lock lock(mutex_);
    for (;;) {
        work_.wait(lock, [this] { return stopping_ || !uploads_.empty(); });
        if (stopping_) {
            return;
        }
        const auto [layer, exchange] = uploads_.front();
        lock.unlock();
        std::string error;
        try {
            slots_->upload(layer->tensors, exchange.expert, exchange.slot);
        } catch (const std::exception & e) { // Vulkan reports a lost device this way; the next step finds out for itself
            error = e.what();
            log_line(LogLevel::error, "no more experts are cached: " + error);
        }
        lock.lock();
        uploads_.pop_front();
        if (error.empty()) {
            layer->policy.finish(exchange);
            uploaded_++;
            uploaded_bytes_ += layer->tensors.expert_bytes;
            branched_ = 1;
        } else {
            layer->policy.give_up(exchange);
            for (const Upload & upload : uploads_) {
                upload.layer->policy.give_up(upload.exchange);
            }
            uploads_.clear();
            error_ = error;
        }
    }
}

ExpertStats ExpertCache::stats() const {
    std::lock_guard lock(mutex_);
    ExpertStats stats{.layers = {}, .device_bytes = slots_->bytes(), .uploads = uploaded_, .uploaded_bytes = uploaded_bytes_, .single_rows = single_rows_, .error = error_};
    for (const Layer * layer : in_order_) {
        ExpertLayerStats one{.layer = layer->tensors.layer, .experts = layer->tensors.experts, .slots = layer->policy.slots(), .tokens = layer->policy.tokens(),
                             .device_rows = layer->device_rows, .host_rows = layer->host_rows, .counts = layer->policy.counts(), .cached = {}};
        for (uint32_t expert = 0; expert < one.experts; ++expert) {
            if (layer->policy.slot_of(expert) >= 0) {
                one.cached.push_back(expert);
            }
        }
        stats.layers.push_back(std::move(one));
    }
    return stats;
}

} // namespace ternion
