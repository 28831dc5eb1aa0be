// Work that needs a llama_context of another shape than the conversations': embeddings and teacher-forced logits.
#pragma once

#include "model.h"
#include "thread_budget.h"
#include "worker.h"

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace ternion {

/// Runs on a thread of its own, with contexts that live as long as one call: what they need is sized by the call.
class SideContext {
  public:
    /// `kv_k`, `kv_v`: types of the KV cache, as the conversations have them.
    SideContext(std::shared_ptr<Model> model, int32_t threads, ggml_type kv_k, ggml_type kv_v)
        : model_(std::move(model)), threads_(threads), kv_k_(kv_k), kv_v_(kv_v), lease_(threads) {}
    ~SideContext() { stop(); }

    using Rows = std::vector<std::vector<float>>;
    using Cancel = std::shared_ptr<std::atomic<bool>>;

    /// One vector per text, in order: pooled as the model's file says, by mean where it says nothing. `normalize`
    /// scales each to unit length. `done` is called on the side thread.
    void embed(std::vector<std::string> texts, bool normalize, Cancel cancel, std::function<void(Result<Rows>)> done);

    /// For each position the logits of the token that would follow: tokens.size() rows of n_vocab floats.
    void logits(std::vector<llama_token> tokens, Cancel cancel, std::function<void(Result<std::vector<float>>)> done);

    /// Log probability (natural) of each token after those before it: tokens.size() - 1 floats, the first for the second
    /// token. What perplexity is made of, without the logits leaving the engine.
    void score(std::vector<llama_token> tokens, Cancel cancel, std::function<void(Result<std::vector<float>>)> done);

    /// Cancels what runs and waits for it. Idempotent.
    void stop();

  private:
    Result<Rows> run_embed(const std::vector<std::string> & texts, bool normalize, const std::atomic<bool> & cancel);
    using Row = std::function<void(size_t position, const float * logits)>;
    using Floats = std::function<void(Result<std::vector<float>>)>;
    Result<bool> each_row(const std::vector<llama_token> & tokens, const std::atomic<bool> & cancel, const Row & take);
    Result<std::vector<float>> run_logits(const std::vector<llama_token> & tokens, const std::atomic<bool> & cancel);
    Result<std::vector<float>> run_score(const std::vector<llama_token> & tokens, const std::atomic<bool> & cancel);
    void post(std::vector<llama_token> tokens, Cancel cancel, Floats done,
              Result<std::vector<float>> (SideContext::*work)(const std::vector<llama_token> &, const std::atomic<bool> &));

    const std::shared_ptr<Model> model_;
    const int32_t threads_;
    const ggml_type kv_k_, kv_v_;
    const ThreadBudget::Lease lease_;
    std::atomic<bool> stopping_{false};
    Worker worker_{"ternion-side"};
};

} // namespace ternion
