// Experts in recent use, kept in device memory while all of them lie in host memory; and who was routed where. Design and threads:
// docs/architecture.md, "Experts".
#pragma once

#include "error.h"
#include "expert_policy.h"
#include "expert_slots.h"

#include <../src/llama-ext.h> // llama_moe_router

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace ternion {

struct ExpertCacheOptions {
    uint64_t device_bytes = 0; // of slots; 0: routing is only counted
    /// Bytes that may start on their way between two steps; one expert always may, none while others still are.
    uint64_t upload_bytes = 32 << 20;
};

struct ExpertLayerStats {
    int32_t layer = 0;
    uint32_t experts = 0, slots = 0;
    uint64_t tokens = 0;
    uint64_t device_rows = 0, host_rows = 0; // of a token and an expert, where both branches were computed; the first are the hits
    std::vector<uint64_t> counts;            // tokens by expert
    std::vector<uint32_t> cached;            // experts with a slot now, in ascending order
};

struct ExpertStats {
    std::vector<ExpertLayerStats> layers;
    std::map<std::string, uint64_t> device_bytes; // of the slots, by device
    uint64_t uploads = 0, uploaded_bytes = 0;
    uint64_t single_rows = 0; // computed without branches: batches that go to the device whole, and all before the first upload
    std::string error;        // why there are no more uploads; empty while there are
};

class ExpertCache : public llama_moe_router {
  public:
    static Result<std::unique_ptr<ExpertCache>> make(const llama_model & model, const ExpertCacheOptions & options);
    /// Joins the uploads; the llama_context has to be gone.
    ~ExpertCache() override;

    /// From now on the context's experts are routed here; reserves its memory anew, and throws what that throws.
    void attach(llama_context * context);
    /// Engine thread, between two steps of a context that has finished computing: what an upload overwrites, nobody reads.
    void between_steps();
    /// Any thread.
    ExpertStats stats() const;
    const std::map<std::string, uint64_t> & bytes() const { return slots_->bytes(); }

    // llama_moe_router; engine thread.
    int route(ggml_context * context, ggml_cgraph * graph, int layer, ggml_tensor * cur, llama_moe_branch branches[2]) override;
    uint32_t topology() const override { return branched_; }
    uint32_t max_tokens() const override { return most_tokens_; }

  private:
    struct Layer {
        Layer(ExpertCache & cache, const ExpertLayer & tensors);
        ExpertCache & cache;
        const ExpertLayer & tensors;
        ExpertPolicy policy;
        uint64_t device_rows = 0, host_rows = 0;
    };
    struct Upload {
        Layer * layer;
        ExpertPolicy::Exchange exchange;
    };

    ExpertCache(std::unique_ptr<ExpertSlots> slots, const ExpertCacheOptions & options);
    static void decide(ggml_tensor * ids, int thread, int threads, void * layer);
    void decide(Layer & layer, const ggml_tensor & chosen, ggml_tensor & ids);
    void run(); // ternion-experts

    const std::unique_ptr<ExpertSlots> slots_;
    const ExpertCacheOptions options_;
    const uint32_t most_tokens_;
    std::map<const ggml_tensor *, std::unique_ptr<Layer>> layers_; // by the experts' last product, as graphs have it
    std::vector<Layer *> in_order_;
    std::atomic<uint32_t> branched_{1}; // 1: graphs have both branches; while memory is reserved, and once a slot is filled

    mutable std::mutex mutex_; // policies, counts, uploads
    std::condition_variable work_;
    std::deque<Upload> uploads_; // the first is on its way
    uint64_t uploaded_ = 0, uploaded_bytes_ = 0, single_rows_ = 0;
    std::vector<int32_t> chosen_; // one token's experts
    std::string error_;
    bool stopping_ = false;
    std::thread thread_;
};

} // namespace ternion
