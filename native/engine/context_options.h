// What a context is made with, and what it says of itself. Plain data.
#pragma once

#include "ggml.h"

#include <cstdint>
#include <string>
#include <vector>

namespace ternion {

/// Whether attention is one operation (flash attention) or several. `yes` refuses a device that has none.
enum class FusedAttention { where_it_can, yes, no };

struct ContextOptions {
    uint32_t context = 0;     // tokens of the longest conversation; 0: the trained context
    uint32_t sequences = 1;   // decoded at once
    uint32_t kv_tokens = 0;   // cells of the pool, at least `context`; 0: context * sequences
    int32_t spare = -1;       // sequence ids beside, for sessions that wait; -1: as many as cost nothing, else one per sequence
    int32_t threads = 0;      // 0: default_threads()
    uint32_t ubatch = 0;      // tokens of one step, at least `sequences`; 0: 512. No more than the pool has cells
    FusedAttention attention = FusedAttention::where_it_can;
    ggml_type kv_k = GGML_TYPE_F16;
    ggml_type kv_v = GGML_TYPE_F16;
    bool allow_refused_operations = false; // the CPU computes what a device refuses
    std::string fingerprint;           // of the model; state of another one is refused
    uint64_t ram_bytes = 0;            // for state of sessions without cells
    uint64_t disk_bytes = 0;           // likewise, in files
    std::string disk_folder;           // where they lie; made if it is not there
    uint64_t checkpoint_bytes = 256 << 20;
    uint64_t expert_cache_bytes = 0; // of device memory, for experts that lie in host memory
    bool count_experts = false;      // who is routed where, also without a cache
};

struct Stats {
    uint64_t steps = 0, shared_steps = 0, max_sequences_in_step = 0;
    uint64_t prefill_tokens = 0, decode_tokens = 0;
    uint64_t narrow_steps = 0; // steps on fewer threads than allowed, because the machine was busy
    uint64_t wakes = 0;
    uint64_t requests = 0, preemptions = 0;
    double queue_ms = 0;     // all requests' together
    uint64_t last_batch = 0; // tokens of the last step
    uint32_t active_generations = 0, queued_generations = 0, resident_sequences = 0;
};

struct CacheNode {
    uint32_t begin = 0, tokens = 0, references = 0;
    bool pinned = false;
};

struct CacheStats {
    uint64_t cells = 0, used_cells = 0, shared_cells = 0, retained_cells = 0;
    uint64_t cell_bytes = 0;
    uint32_t ids = 0, used_ids = 0;
    uint32_t sessions = 0, resident = 0, pinned = 0;
    uint64_t hits = 0, hit_tokens = 0, evictions = 0, restores = 0;
    uint64_t captured_bytes = 0, restored_bytes = 0;
    uint64_t checkpoints = 0, checkpoint_bytes = 0, checkpoint_budget = 0;
    uint64_t ram_bytes = 0, ram_entries = 0, ram_budget = 0;
    uint64_t disk_bytes = 0, disk_entries = 0, disk_budget = 0, writing_bytes = 0;
    uint64_t dropped = 0, disk_errors = 0;
    std::vector<CacheNode> nodes; // parents first
};

} // namespace ternion
