#include "context.h"

#include "log.h"

#include <../src/llama-ext.h> // llama_get_memory_breakdown

#include <algorithm>
#include <map>

namespace ternion {

// ---- creation -------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<Context>> Context::create(std::shared_ptr<Model> model, const ContextOptions & options) {
    std::unique_ptr<Context> context(new Context(std::move(model), options));
    if (auto ok = context->init(); !ok) {
        return ok.error();
    }
    return context;
}

Context::Context(std::shared_ptr<Model> model, const ContextOptions & options) : model_(std::move(model)), options_(options) {}

Result<bool> Context::init() {
    if (options_.threads <= 0) {
        options_.threads = default_threads();
    }
    context_ = options_.context > 0 ? options_.context : static_cast<uint32_t>(model_->info().trained_context);
    const uint64_t cells = static_cast<uint64_t>(context_) * options_.sequences;
    if (context_ == 0 || options_.sequences == 0 || options_.sequences > llama_max_parallel_sequences() || cells > INT32_MAX) {
        return Error{ErrorCode::invalid_arg,
                     "context " + std::to_string(context_) + " with " + std::to_string(options_.sequences) +
                         " sequences is impossible: 1 to " + std::to_string(llama_max_parallel_sequences()) + " sequences, at most 2^31 cells"};
    }
    const int32_t ubatch = static_cast<int32_t>(std::min<uint64_t>(512, cells));

    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<uint32_t>(cells);
    params.n_batch = static_cast<uint32_t>(ubatch); // never more than one ubatch per call: see design §3
    params.n_ubatch = static_cast<uint32_t>(ubatch);
    params.n_seq_max = options_.sequences;
    params.n_threads = params.n_threads_batch = options_.threads;
    params.type_k = options_.kv_k;
    params.type_v = options_.kv_v;
    params.kv_unified = true;
    params.no_perf = true;
    params.swa_full = false;
    params.abort_callback = [](void * user) { return static_cast<Context *>(user)->abort_requested(); };
    params.abort_callback_data = this;

    lease_ = std::make_unique<ThreadBudget::Lease>(options_.threads);
    LogCapture capture;
    std::string thrown;
    try {
        const auto registry = registry_in_use();
        ctx_.reset(llama_init_from_model(model_->handle(), params));
    } catch (const std::exception & e) {
        thrown = e.what();
    }
    if (!ctx_) {
        const std::string why = capture.text(thrown.empty() ? "llama.cpp gave no reason" : thrown);
        const bool memory = why.find("alloc") != std::string::npos;
        return Error{memory ? ErrorCode::out_of_memory : ErrorCode::model_unsupported,
                     "no context of " + std::to_string(cells) + " cells: " + why,
                     {{"context", static_cast<double>(context_)}, {"sequences", static_cast<double>(options_.sequences)}}};
    }
    batch_.allocate(ubatch);
    governor_ = ThreadGovernor(model_->on_gpu() ? 1 : options_.threads);
    resident_sessions_.resize(options_.sequences);

    std::map<std::string, DevicePlacement> by_device;
    for (const auto & [type, bytes] : llama_get_memory_breakdown(ctx_.get())) {
        DevicePlacement & place = by_device[device_id_of(type)];
        place.weight_bytes += bytes.model;
        place.kv_bytes += bytes.context;
        place.compute_bytes += bytes.compute;
    }
    for (auto & [device, place] : by_device) {
        place.device = device;
        placement_.push_back(place);
    }
    thread_ = std::thread([this] { run(); });
    return true;
}

Context::~Context() {
    stop();
    if (poisoned_) {
        // Freeing it would synchronise with a device that is gone and end the process.
        (void) ctx_.release();
        new std::shared_ptr<Model>(model_);
    }
}

void Context::stop() {
    {
        std::lock_guard lock(mutex_);
        stopping_ = true;
        for (auto & [id, generation] : generations_) {
            generation->cancelled = true;
        }
        work_.notify_one();
    }
    text_.stop();
    if (thread_.joinable()) {
        thread_.join();
    }
}

// ---- any thread -----------------------------------------------------------------------------------------------------

uint64_t Context::open_session() {
    std::lock_guard lock(mutex_);
    const uint64_t id = next_id_++;
    sessions_.emplace(id, std::make_shared<Session>(id));
    return id;
}

void Context::close_session(uint64_t id, std::function<void()> done) {
    std::unique_lock lock(mutex_);
    if (stopped_) { // nobody takes commands any more, and there is nothing left to free
        lock.unlock();
        done();
        return;
    }
    work_.notify_one();
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) {
        commands_.push_back(std::move(done));
        return;
    }
    for (auto & [generation_id, generation] : generations_) {
        if (generation->session == found->second) {
            generation->cancelled = true;
        }
    }
    commands_.push_back([this, session = found->second, done = std::move(done)]() mutable {
        closing_.emplace_back(std::move(session), std::move(done));
    });
    sessions_.erase(found);
}

uint32_t Context::session_tokens(uint64_t id) {
    std::lock_guard lock(mutex_);
    const auto found = sessions_.find(id);
    return found == sessions_.end() ? 0 : found->second->n_tokens.load();
}

Result<uint64_t> Context::generate(uint64_t session_id, GenerateRequest request) {
    GenerationPtr generation;
    {
        std::lock_guard lock(mutex_);
        const auto session = sessions_.find(session_id);
        if (stopping_ || session == sessions_.end()) {
            return Error{ErrorCode::disposed, "the session was disposed"};
        }
        if (!llama_get_memory(ctx_.get()) || !model_->info().causal) {
            return Error{ErrorCode::model_unsupported, "the model cannot generate: it sees a text in both directions, as encoders do; it may embed"};
        }
        if (session->second->busy.exchange(true)) {
            return Error{ErrorCode::busy, "the session is working on another request"};
        }
        generation = std::make_shared<Generation>(next_id_++, session->second, std::move(request));
        generations_.emplace(generation->id, generation);
        active_count_++;
        commands_.push_back([this, generation] { active_.push_back(generation); });
        work_.notify_one();
    }
    text_.post([this, generation](bool cancelled) {
        if (cancelled) {
            generation->cancelled = true;
        }
        prepare(generation);
    });
    return generation->id;
}

std::vector<Event> Context::drain(uint64_t id) {
    GenerationPtr generation;
    {
        std::lock_guard lock(mutex_);
        const auto found = generations_.find(id);
        if (found == generations_.end()) {
            return {};
        }
        generation = found->second;
    }
    bool was_full = false;
    std::vector<Event> events = generation->ring.drain(was_full);
    const bool last = !events.empty() && (events.back().kind == Event::Kind::finish || events.back().kind == Event::Kind::error);
    if (was_full || last) {
        std::lock_guard lock(mutex_);
        if (last) {
            generations_.erase(id);
        }
        work_.notify_one();
    }
    return events;
}

void Context::cancel(uint64_t id) {
    std::lock_guard lock(mutex_);
    const auto found = generations_.find(id);
    if (found != generations_.end()) {
        found->second->cancelled = true;
        work_.notify_one();
    }
}

void Context::set_waker(std::function<void()> waker) {
    std::lock_guard lock(mutex_);
    waker_ = std::move(waker);
}

void Context::wake_taken() { wake_pending_ = false; }

Stats Context::stats() {
    std::lock_guard lock(mutex_);
    Stats stats = stats_;
    stats.active_generations = active_count_;
    stats.resident_sequences = resident_;
    return stats;
}

// ---- engine thread --------------------------------------------------------------------------------------------------

void Context::run() {
    name_thread("ternion-engine");
    for (;;) {
        {
            std::unique_lock lock(mutex_);
            take_commands(lock);
            if (stopping_ && active_.empty() && commands_.empty()) {
                stopped_ = true;
                break;
            }
        }
        retire_cancelled();
        close_sessions();
        if (!poisoned_) {
            step();
        } else {
            fail_batch({});
        }
        std::erase_if(active_, [](const GenerationPtr & g) { return g->state == Generation::State::done; });
        wake();
    }
    close_sessions();
    wake();
}

// Sleeps while there is nothing that a step could do.
void Context::take_commands(std::unique_lock<std::mutex> & lock) {
    const auto runnable = [&] {
        const auto working = std::count_if(active_.begin(), active_.end(), [](const GenerationPtr & g) {
            return g->state == Generation::State::prefill || g->state == Generation::State::decode;
        });
        return std::any_of(active_.begin(), active_.end(), [&](const GenerationPtr & g) {
            switch (g->state) {
                case Generation::State::preparing: return g->cancelled.load();
                case Generation::State::queued:    return g->cancelled || working < static_cast<std::ptrdiff_t>(options_.sequences);
                case Generation::State::decode:    return g->cancelled || !g->ring.full();
                default:                           return true;
            }
        });
    };
    work_.wait(lock, [&] { return stopping_ || !commands_.empty() || runnable(); });
    while (!commands_.empty()) {
        const auto command = std::move(commands_.front());
        commands_.pop_front();
        lock.unlock();
        command();
        lock.lock();
    }
}

void Context::wake() {
    if (!woke_) {
        return;
    }
    woke_ = false;
    if (wake_pending_.exchange(true)) {
        return;
    }
    std::function<void()> waker;
    {
        std::lock_guard lock(mutex_);
        stats_.wakes++;
        waker = waker_;
    }
    if (waker) {
        waker();
    }
}

void Context::retire_cancelled() {
    for (const GenerationPtr & generation : active_) {
        if (generation->cancelled && generation->state != Generation::State::done) {
            finish(*generation, FinishReason::aborted);
        }
    }
    std::erase_if(active_, [](const GenerationPtr & g) { return g->state == Generation::State::done; });
    wake();
}

void Context::finish(Generation & generation, FinishReason reason) {
    Event event{.kind = Event::Kind::finish};
    event.reason = reason;
    retire(generation, std::move(event));
}

void Context::fail(Generation & generation, Error error) {
    if (generation.state == Generation::State::done) {
        return;
    }
    Event event{.kind = Event::Kind::error};
    event.error = std::move(error);
    retire(generation, std::move(event));
}

void Context::retire(Generation & generation, Event last) {
    // What the text thread fills may only be looked at once it is done with it. (The session's next request may come
    // before that: it is prepared by the same thread, so one after the other.)
    const bool started = generation.state != Generation::State::preparing && generation.pipeline;
    if (started) {
        generation.pipeline->flush(generation.ring, Clock::now(), true);
        if (generation.position == generation.prompt.size()) {
            auto & spelled = generation.session->spelled;
            spelled.text = generation.prompt_text + generation.answer_text;
            spelled.tokens = generation.prompt;
            spelled.tokens.insert(spelled.tokens.end(), generation.answer.begin(), generation.answer.end());
        }
    }
    generation.state = Generation::State::done;
    last.usage = generation.usage;
    generation.session->busy = false;
    active_count_--;
    generation.ring.push(std::move(last));
    woke_ = true;
}

void Context::close_sessions() {
    for (auto it = closing_.begin(); it != closing_.end();) {
        auto & [session, done] = *it;
        const bool working = std::any_of(active_.begin(), active_.end(), [&](const GenerationPtr & g) { return g->session == session; });
        if (working) {
            ++it;
            continue;
        }
        if (session->sequence >= 0 && !poisoned_) {
            evict(*session);
        }
        done();
        it = closing_.erase(it);
    }
}

} // namespace ternion
