// What a context says of itself. The engine thread writes it down, any thread reads it.
#include "context.h"

#include <algorithm>

namespace ternion {

Stats Context::stats() {
    std::lock_guard lock(mutex_);
    Stats stats = stats_;
    stats.active_generations = active_count_;
    stats.resident_sequences = cache_stats_.resident;
    return stats;
}

std::optional<ExpertStats> Context::expert_stats() const { return experts_ ? std::optional(experts_->stats()) : std::nullopt; }

CacheStats Context::cache_stats() {
    std::lock_guard lock(mutex_);
    CacheStats stats = cache_stats_;
    stats.sessions = static_cast<uint32_t>(sessions_.size());
    return stats;
}

// While tokens follow one another; whatever ends or begins a request publishes at once, and nobody sleeps on something unpublished.
void Context::publish_now_and_then() {
    if (Clock::now() - published_ >= Pipeline::patience || !runnable()) {
        publish();
    }
}

// What the cache holds, for whoever asks.
void Context::publish() {
    if (!llama_get_memory(ctx_.get())) {
        return;
    }
    published_ = Clock::now();
    CacheStats now;
    const KvCache::Options & options = cache_->options();
    const CacheCounts & counts = cache_->counts();
    const StateStore::Counts stored = store_->counts();
    now.cells = options.cells;
    now.used_cells = cache_->tree().tokens();
    now.cell_bytes = options.cell_bytes;
    now.ids = options.ids;
    for (const auto & session : cache_->residents()) {
        if (!session) {
            continue;
        }
        now.used_ids++;
        now.resident += !session->retained;
        now.pinned += session->pinned;
        const size_t own = session->tokens.size() - std::min(session->tokens.size(), cache_->tree().shared(session->sequence));
        now.retained_cells += session->retained ? own : 0;
    }
    now.hits = counts.hits;
    now.hit_tokens = counts.hit_tokens;
    now.evictions = counts.evictions;
    now.restores = counts.restores;
    now.captured_bytes = counts.captured_bytes;
    now.restored_bytes = counts.restored_bytes;
    now.checkpoints = counts.checkpoints;
    now.checkpoint_bytes = counts.checkpoint_bytes;
    now.checkpoint_budget = options.checkpoint_bytes;
    now.ram_bytes = stored.ram_bytes;
    now.ram_entries = stored.ram_entries;
    now.ram_budget = store_->budget().ram_bytes;
    now.disk_bytes = stored.disk_bytes;
    now.disk_entries = stored.disk_entries;
    now.disk_budget = store_->budget().disk_bytes;
    now.writing_bytes = stored.writing_bytes;
    now.dropped = stored.dropped;
    now.disk_errors = stored.errors;
    const auto nodes = cache_->tree().nodes();
    for (const PrefixTree::Node & node : nodes) {
        const bool pinned = std::ranges::any_of(node.holders, [&](PrefixTree::Holder h) { return cache_->residents()[static_cast<size_t>(h)]->pinned; });
        now.shared_cells += node.holders.size() > 1 ? node.length : 0;
        now.nodes.push_back({static_cast<uint32_t>(node.begin), static_cast<uint32_t>(node.length), static_cast<uint32_t>(node.holders.size()), pinned});
    }
    uint32_t queued = 0;
    for (const GenerationPtr & g : active_) {
        queued += g->state != Generation::State::done && !g->running();
    }
    std::lock_guard lock(mutex_);
    cache_stats_ = std::move(now);
    stats_.queued_generations = queued;
}

} // namespace ternion
