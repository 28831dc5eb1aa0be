// A llama_context with its thread: sequences of many sessions decoded together.
#pragma once

#include "batch.h"
#include "context_options.h"
#include "expert_cache.h"
#include "generation.h"
#include "kv_cache.h"
#include "model.h"
#include "placement.h"
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
#include <optional>
#include <thread>
#include <vector>

namespace ternion {

/// Owns one engine thread, which alone calls llama_* on this context. Public functions are for any thread and return
/// at once; what they ask for happens on the engine thread, in order.
class Context {
  public:
    static Result<std::unique_ptr<Context>> create(std::shared_ptr<Model> model, const ContextOptions & options);
    /// What create() would take, for a model that was loaded dry. Blocks for some 100 ms.
    static Result<Placement> lay_out(std::shared_ptr<Model> model, const ContextOptions & options);
    /// A context of a model that was loaded dry, without a thread of its own: for what is done with handle() alone.
    static Result<std::unique_ptr<Context>> create_dry(std::shared_ptr<Model> model, const ContextOptions & options);
    ~Context(); // stop(), then frees the llama_context

    /// `pinned`: its cells stay while there is any other way.
    uint64_t open_session(bool pinned = false);
    /// A session that is what `parent` is, for the price of marking its cells. busy while the parent works.
    Result<uint64_t> fork_session(uint64_t parent);
    /// `done` is called once the session's cells are free, on the engine thread (on the caller's if that has ended); its
    /// generation is aborted first.
    void close_session(uint64_t session, std::function<void()> done);
    uint32_t session_tokens(uint64_t session);

    Result<uint64_t> generate(uint64_t session, GenerateRequest request);
    /// The session as a value, with `conversation` along; `done` is called on the engine thread. What has no cells is brought
    /// back first, or prefilled. Returns an id for cancel().
    /// `only`: these tokens instead of all that the session has.
    Result<uint64_t> capture(uint64_t session, std::string conversation, std::optional<std::vector<llama_token>> only, std::function<void(Result<SnapshotPtr>)> done);
    /// Puts a snapshot in place of what the session is; it stays what it was if that fails: state_mismatch.
    Result<uint64_t> adopt(uint64_t session, SnapshotPtr snapshot, std::function<void(Result<SnapshotPtr>)> done);
    /// Runs on the engine thread between two steps.
    void look(std::function<void(const KvCache &)> at);
    /// Gives up cells and checkpoints that only wait to be of use to others.
    void trim_cache(std::function<void()> done);
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
    CacheStats cache_stats();
    /// Nothing if no experts are cached or counted.
    std::optional<ExpertStats> expert_stats() const;
    /// Any thread.
    Placement placement() const;
    const std::string & fingerprint() const { return options_.fingerprint; }
    uint32_t context_size() const { return context_; }
    uint32_t sequences() const { return options_.sequences; }
    uint32_t kv_tokens() const { return options_.kv_tokens; }
    uint32_t sequence_ids() const { return options_.sequences + static_cast<uint32_t>(options_.spare); }
    int32_t threads() const { return options_.threads; }
    /// Of create_dry()'s.
    llama_context * handle() const { return ctx_.get(); }

  private:
    using GenerationPtr = std::shared_ptr<Generation>;
    struct Free {
        void operator()(llama_context * ctx) const { llama_free(ctx); }
    };

    Context(std::shared_ptr<Model> model, const ContextOptions & options);

    // context_init.cc
    Result<bool> init();
    Result<bool> check_options();
    Result<bool> check_kv_types() const;
    Result<bool> make_experts();
    Result<bool> check_cells() const;
    Result<bool> check_memory();
    Result<bool> check_bookkeeping();
    Result<bool> check_cell_bytes(uint64_t bytes_each) const;
    Result<bool> make_context();
    Result<bool> check_operations();
    Result<bool> make_cache();
    void place();

    // prepare.cc, text thread
    void prepare(const GenerationPtr & generation);
    Result<bool> prepare_prompt(Generation & generation);
    Result<const ChatTemplate *> chat_template();

    // context.cc
    std::shared_ptr<Session> find_idle(uint64_t session, Error & error);
    uint64_t start(const GenerationPtr & generation);
    GenerationPtr work(uint64_t session, Work what, std::function<void(Result<SnapshotPtr>)> done, Error & error); // context_sessions.cc

    void publish(); // context_stats.cc, engine thread
    void publish_now_and_then();

    // context.cc, engine thread
    void run();
    void wake();
    bool runnable() const;
    void take_commands(std::unique_lock<std::mutex> & lock);
    void retire_cancelled();
    void finish(Generation & generation, FinishReason reason);
    void fail(Generation & generation, Error error);
    void retire(Generation & generation, Event last);
    void close_sessions();
    void post(std::function<void()> command);

    // schedule.cc, engine thread
    enum class Admitted { yes, later, no_room };
    void schedule();
    uint32_t running() const;
    bool has_place() const;
    GenerationPtr who_yields(const Generation & to, bool cells) const;
    bool may_start(const Generation & generation) const;
    bool awaits_prefix(const Generation & generation) const;
    Admitted admit(const GenerationPtr & generation);
    size_t headroom(const Generation & generation) const;
    void begin(Generation & generation, const KvCache::Place & place);
    void interrupt(Generation & generation);
    void yield_last();
    bool make_room_for_batch();
    Error no_room_error() const;
    void capture_now(Generation & generation);
    Admitted adopt_now(Generation & generation);

    // step.cc, engine thread
    void step();
    void fill_batch();
    int32_t feed(Generation & generation, int32_t n);
    int32_t decode();
    void after_decode(Clock::duration took);
    void report_progress(Generation & generation);
    void fed(Generation & generation);
    std::optional<Error> no_token_error(const Generation & generation) const;
    void take_token(Generation & generation, Clock::time_point now);
    void undo_batch();
    void fail_batch(int32_t status);
    bool abort_requested() const;

    const std::shared_ptr<Model> model_;
    ContextOptions options_;
    uint32_t context_ = 0;
    std::unique_ptr<ExpertCache> experts_; // null: none; outlives the context
    std::unique_ptr<llama_context, Free> ctx_;
    std::unique_ptr<ChatTemplate> template_; // text thread
    std::vector<DevicePlacement> devices_;
    std::vector<RefusedOperation> refused_;

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
    std::atomic<uint32_t> active_count_{0};
    Stats stats_;            // under mutex_, written by the engine thread
    CacheStats cache_stats_; // likewise

    // Engine thread only.
    std::unique_ptr<StateStore> store_;
    std::unique_ptr<KvCache> cache_;
    std::vector<GenerationPtr> active_; // those of higher priority first, then in order of arrival
    std::vector<std::pair<std::shared_ptr<Session>, std::function<void()>>> closing_;
    Batch batch_;
    ThreadGovernor governor_;
    std::unique_ptr<ThreadBudget::Lease> lease_;
    uint64_t pool_generation_ = ~uint64_t{0};
    int32_t threads_set_ = 0;
    Clock::time_point published_{};
    uint64_t turn_ = 0;             // whose prefill comes first moves on with every step
    Clock::duration last_step_{};
    double prefill_tokens_per_ms_ = 0.0; // 0: not measured yet
    bool woke_ = false;                  // a ring got something during this round
    bool poisoned_ = false;              // a step ended in the middle: what the context holds is unknown
    bool out_of_memory_ = false;         // of the device, and that was why; else the device is gone, and the context is leaked, never freed

    Worker text_{"ternion-text"};
    Thread thread_;
};

} // namespace ternion
