// A llama_context with its thread: sequences of many sessions decoded together.
#pragma once

#include "batch.h"
#include "generation.h"
#include "model.h"
#include "thread_budget.h"
#include "thread_governor.h"
#include "worker.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace ternion {

struct ContextOptions {
    uint32_t context = 0;   // tokens of the longest conversation; 0: the trained context
    uint32_t sequences = 1; // decoded at once; the KV pool holds context * sequences cells
    int32_t threads = 0;    // 0: default_threads()
    ggml_type kv_k = GGML_TYPE_F16;
    ggml_type kv_v = GGML_TYPE_F16;
};

struct Stats {
    uint64_t steps = 0, shared_steps = 0, max_sequences_in_step = 0;
    uint64_t prefill_tokens = 0, decode_tokens = 0;
    uint64_t narrow_steps = 0; // steps on fewer threads than allowed, because the machine was busy
    uint64_t wakes = 0;
    uint32_t active_generations = 0, resident_sequences = 0;
};

struct DevicePlacement {
    std::string device;
    uint64_t weight_bytes = 0, kv_bytes = 0, compute_bytes = 0;
};

/// Owns one engine thread, which alone calls llama_* on this context. Public functions are for any thread and return
/// at once; what they ask for happens on the engine thread, in order.
class Context {
  public:
    static Result<std::unique_ptr<Context>> create(std::shared_ptr<Model> model, const ContextOptions & options);
    ~Context(); // stop(), then frees the llama_context

    uint64_t open_session();
    /// `done` is called once the session's cells are free, on the engine thread (on the caller's if that has ended); its
    /// generation is aborted first.
    void close_session(uint64_t session, std::function<void()> done);
    uint32_t session_tokens(uint64_t session);

    Result<uint64_t> generate(uint64_t session, GenerateRequest request);
    std::vector<Event> drain(uint64_t generation);
    void cancel(uint64_t generation);

    /// Called on the engine thread when a ring has something new, and not again before wake_taken().
    void set_waker(std::function<void()> waker);
    void wake_taken();

    /// Renders with the model's template on the text thread; `done` is called there.
    void render(std::vector<ChatMessage> messages, bool thinking, std::function<void(Result<std::string>)> done);
    /// Runs on the text thread.
    void post_text(Worker::Task task) { text_.post(std::move(task)); }

    /// Aborts everything, reports it, joins the threads. Idempotent.
    void stop();

    Stats stats();
    std::vector<DevicePlacement> placement() const { return placement_; }
    uint32_t context_size() const { return context_; }
    uint32_t sequences() const { return options_.sequences; }
    int32_t threads() const { return options_.threads; }

  private:
    using GenerationPtr = std::shared_ptr<Generation>;
    struct Free {
        void operator()(llama_context * ctx) const { llama_free(ctx); }
    };

    Context(std::shared_ptr<Model> model, const ContextOptions & options);
    Result<bool> init();

    // prepare.cc, text thread
    void prepare(const GenerationPtr & generation);
    Result<bool> prepare_prompt(Generation & generation);
    Result<const ChatTemplate *> chat_template();

    // context.cc, engine thread
    void run();
    void wake();
    void take_commands(std::unique_lock<std::mutex> & lock);
    void retire_cancelled();
    void finish(Generation & generation, FinishReason reason);
    void fail(Generation & generation, Error error);
    void retire(Generation & generation, Event last);
    void close_sessions();

    // step.cc, engine thread
    void step();
    bool admit(Generation & generation);
    llama_seq_id claim_sequence();
    void evict(Session & session);
    size_t rewind(Session & session, size_t keep);
    void fill_batch();
    int32_t decode();
    void after_decode(Clock::duration took);
    void take_token(Generation & generation, Clock::time_point now);
    void undo_batch();
    void fail_batch(const std::string & why);
    bool abort_requested() const;

    const std::shared_ptr<Model> model_;
    ContextOptions options_;
    uint32_t context_ = 0;
    std::unique_ptr<llama_context, Free> ctx_;
    std::unique_ptr<ChatTemplate> template_; // text thread
    std::vector<DevicePlacement> placement_;

    // Shared between threads, under mutex_.
    std::mutex mutex_;
    std::condition_variable work_;
    std::map<uint64_t, std::shared_ptr<Session>> sessions_;
    std::map<uint64_t, GenerationPtr> generations_; // until their last event is drained
    std::deque<std::function<void()>> commands_;
    uint64_t next_id_ = 1;
    bool stopping_ = false;
    bool stopped_ = false;
    std::function<void()> waker_;

    std::atomic<bool> wake_pending_{false};
    std::atomic<uint32_t> resident_{0}, active_count_{0};
    Stats stats_; // under mutex_, written by the engine thread once per step

    // Engine thread only.
    std::deque<GenerationPtr> active_; // in order of arrival
    std::vector<std::shared_ptr<Session>> resident_sessions_; // by sequence id, null: free
    std::vector<std::pair<std::shared_ptr<Session>, std::function<void()>>> closing_;
    Batch batch_;
    ThreadGovernor governor_;
    std::unique_ptr<ThreadBudget::Lease> lease_;
    uint64_t pool_generation_ = ~uint64_t{0};
    int32_t threads_set_ = 0;
    uint64_t step_number_ = 0;
    Clock::duration last_step_{};
    double prefill_tokens_per_ms_ = 0.0; // 0: not measured yet
    bool woke_ = false;                  // a ring got something during this round
    bool poisoned_ = false;              // the device is gone: the context is leaked, never freed

    Worker text_{"ternion-text"};
    std::thread thread_;
};

} // namespace ternion
