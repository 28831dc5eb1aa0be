// Events, counters and what a cache holds, on their way to JavaScript.
#include "convert.h"
#include "make_list.h"

namespace ternion::binding {
namespace {

napi_value make_usage(napi_env env, const Usage & usage) {
    napi_value out = make_object(env);
    set(env, out, "prompt", number(usage.prompt));
    set(env, out, "cached", number(usage.cached));
    set(env, out, "generated", number(usage.generated));
    set(env, out, "reasoning", number(usage.reasoning));
    set(env, out, "prefillMs", usage.prefill_ms);
    set(env, out, "decodeMs", usage.decode_ms);
    set(env, out, "firstTokenMs", usage.first_token_ms);
    set(env, out, "queueMs", usage.queue_ms);
    set(env, out, "shifted", number(usage.shifted));
    set(env, out, "interrupted", number(usage.interrupted));
    return out;
}

napi_value make_logprob(napi_env env, const TokenLogprob & token, const std::string & text) {
    napi_value out = make_object(env);
    set(env, out, "token", static_cast<double>(token.token));
    set(env, out, "text", text);
    set(env, out, "logprob", static_cast<double>(token.logprob));
    return out;
}

napi_value make_logprobs(napi_env env, const std::vector<LogprobEntry> & entries) {
    return make_list(env, entries, [&](const LogprobEntry & entry) {
        napi_value out = make_logprob(env, entry.logprobs.chosen, entry.chosen_text);
        napi_value top = make_array(env, entry.logprobs.top.size());
        for (size_t i = 0; i < entry.logprobs.top.size(); ++i) {
            set_element(env, top, i, make_logprob(env, entry.logprobs.top[i], entry.top_text[i]));
        }
        set(env, out, "top", top);
        return out;
    });
}

const char * reason_name(FinishReason reason) {
    switch (reason) {
        case FinishReason::stop:    return "stop";
        case FinishReason::length:  return "length";
        case FinishReason::aborted: return "aborted";
    }
    return "stop";
}

napi_value make_event(napi_env env, const Event & event) {
    if (event.kind == Event::Kind::error) {
        napi_value out = make_error(env, event.error); // an Error object that doubles as the event
        set(env, out, "type", "error");
        set(env, out, "usage", make_usage(env, event.usage));
        return out;
    }
    napi_value out = make_object(env);
    switch (event.kind) {
        case Event::Kind::progress:
            set(env, out, "type", "progress");
            set(env, out, "done", number(event.done));
            set(env, out, "total", number(event.total));
            set(env, out, "cached", number(event.cached));
            if (event.remaining_ms >= 0.0) {
                set(env, out, "remainingMs", event.remaining_ms);
            }
            break;
        case Event::Kind::text:
        case Event::Kind::reasoning:
            set(env, out, "type", event.kind == Event::Kind::text ? "text" : "reasoning");
            set(env, out, "text", event.text);
            break;
        case Event::Kind::logprobs:
            set(env, out, "type", "logprobs");
            set(env, out, "logprobs", make_logprobs(env, event.logprobs));
            break;
        case Event::Kind::finish:
            set(env, out, "type", "finish");
            set(env, out, "reason", reason_name(event.reason));
            set(env, out, "usage", make_usage(env, event.usage));
            break;
        case Event::Kind::error:
            break;
    }
    return out;
}

} // namespace

napi_value make(napi_env env, const Stats & stats) {
    napi_value out = make_object(env);
    set(env, out, "steps", number(stats.steps));
    set(env, out, "sharedSteps", number(stats.shared_steps));
    set(env, out, "maxSequencesInStep", number(stats.max_sequences_in_step));
    set(env, out, "prefillTokens", number(stats.prefill_tokens));
    set(env, out, "decodeTokens", number(stats.decode_tokens));
    set(env, out, "narrowSteps", number(stats.narrow_steps));
    set(env, out, "wakes", number(stats.wakes));
    set(env, out, "requests", number(stats.requests));
    set(env, out, "preemptions", number(stats.preemptions));
    set(env, out, "queueMs", stats.queue_ms);
    set(env, out, "lastBatch", number(stats.last_batch));
    set(env, out, "queuedGenerations", number(stats.queued_generations));
    set(env, out, "activeGenerations", number(stats.active_generations));
    set(env, out, "residentSessions", number(stats.resident_sequences));
    return out;
}

napi_value make(napi_env env, const std::vector<Event> & events) {
    return make_list(env, events, [&](const Event & event) { return make_event(env, event); });
}

napi_value make(napi_env env, const std::optional<ExpertStats> & stats) {
    if (!stats) {
        return make_undefined(env);
    }
    napi_value out = make_object(env);
    set(env, out, "layers", make_list(env, stats->layers, [&](const ExpertLayerStats & layer) {
            napi_value item = make_object(env);
            set(env, item, "layer", static_cast<double>(layer.layer));
            set(env, item, "experts", number(layer.experts));
            set(env, item, "slots", number(layer.slots));
            set(env, item, "tokens", number(layer.tokens));
            set(env, item, "counts", make_list(env, layer.counts, [&](uint64_t count) { return make(env, number(count)); }));
            set(env, item, "cached", make_list(env, layer.cached, [&](uint32_t expert) { return make(env, number(expert)); }));
            set(env, item, "deviceRows", number(layer.device_rows));
            set(env, item, "hostRows", number(layer.host_rows));
            return item;
        }));
    napi_value bytes = make_object(env);
    for (const auto & [device, taken] : stats->device_bytes) {
        set(env, bytes, device.c_str(), number(taken));
    }
    set(env, out, "deviceBytes", bytes);
    set(env, out, "uploads", number(stats->uploads));
    set(env, out, "uploadedBytes", number(stats->uploaded_bytes));
    set(env, out, "undividedRows", number(stats->single_rows));
    set(env, out, "error", stats->error);
    return out;
}

napi_value make(napi_env env, const CacheStats & stats) {
    napi_value cells = make_object(env);
    set(env, cells, "total", number(stats.cells));
    set(env, cells, "used", number(stats.used_cells));
    set(env, cells, "shared", number(stats.shared_cells));
    set(env, cells, "retained", number(stats.retained_cells));
    set(env, cells, "bytesEach", number(stats.cell_bytes));
    napi_value sequences = make_object(env);
    set(env, sequences, "total", number(stats.ids));
    set(env, sequences, "used", number(stats.used_ids));
    napi_value sessions = make_object(env);
    set(env, sessions, "open", number(stats.sessions));
    set(env, sessions, "resident", number(stats.resident));
    set(env, sessions, "pinned", number(stats.pinned));
    const auto tier = [&](uint64_t bytes, uint64_t entries, uint64_t budget) {
        napi_value out = make_object(env);
        set(env, out, "bytes", number(bytes));
        set(env, out, "entries", number(entries));
        set(env, out, "budget", number(budget));
        return out;
    };
    napi_value out = make_object(env);
    set(env, out, "cells", cells);
    set(env, out, "sequences", sequences);
    set(env, out, "sessions", sessions);
    set(env, out, "ram", tier(stats.ram_bytes, stats.ram_entries, stats.ram_budget));
    napi_value disk = tier(stats.disk_bytes, stats.disk_entries, stats.disk_budget);
    set(env, disk, "writing", number(stats.writing_bytes));
    set(env, disk, "errors", number(stats.disk_errors));
    set(env, out, "disk", disk);
    set(env, out, "checkpoints", tier(stats.checkpoint_bytes, stats.checkpoints, stats.checkpoint_budget));
    set(env, out, "hits", number(stats.hits));
    set(env, out, "hitTokens", number(stats.hit_tokens));
    set(env, out, "evictions", number(stats.evictions));
    set(env, out, "restores", number(stats.restores));
    set(env, out, "capturedBytes", number(stats.captured_bytes));
    set(env, out, "restoredBytes", number(stats.restored_bytes));
    set(env, out, "dropped", number(stats.dropped));
    set(env, out, "prefixes", make_list(env, stats.nodes, [&](const CacheNode & node) {
            napi_value item = make_object(env);
            set(env, item, "first", number(node.begin));
            set(env, item, "tokens", number(node.tokens));
            set(env, item, "references", number(node.references));
            set(env, item, "pinned", make_bool(env, node.pinned));
            return item;
        }));
    return out;
}

} // namespace ternion::binding
