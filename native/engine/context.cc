#include "context.h"

#include "log.h"

#include <algorithm>

namespace ternion {

Context::~Context() {
    stop();
    if (poisoned_ && !out_of_memory_) {
        // Freeing it would synchronise with a device that is gone and end the process.
        (void) ctx_.release();
        (void) experts_.release();
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
    if (store_) {
        store_->stop();
    }
}

// ---- any thread -----------------------------------------------------------------------------------------------------

// Under mutex_: the session, marked as busy; null with an error if it is not there or busy.
std::shared_ptr<Session> Context::find_idle(uint64_t id, Error & error) {
    const auto found = sessions_.find(id);
    if (stopping_ || found == sessions_.end()) {
        error = {ErrorCode::disposed, "the session was disposed"};
        return nullptr;
    }
    if (!llama_get_memory(ctx_.get()) || !model_->info().causal) {
        error = {ErrorCode::model_unsupported, "the model cannot generate: it sees a text in both directions, as encoders do; it may embed"};
        return nullptr;
    }
    if (found->second->busy.exchange(true)) {
        error = {ErrorCode::busy, "the session is working on another request"};
        return nullptr;
    }
    return found->second;
}

// Under mutex_.
uint64_t Context::start(const GenerationPtr & generation) {
    generations_.emplace(generation->id, generation);
    active_count_++;
    stats_.requests++;
    commands_.push_back([this, generation] {
        const auto place = std::find_if(active_.begin(), active_.end(), [&](const GenerationPtr & g) { return g->request.priority < generation->request.priority; });
        active_.insert(place, generation);
    });
    work_.notify_one();
    return generation->id;
}

Result<uint64_t> Context::generate(uint64_t session_id, GenerateRequest request) {
    GenerationPtr generation;
    {
        std::lock_guard lock(mutex_);
        Error error;
        const auto session = find_idle(session_id, error);
        if (!session) {
            return error;
        }
        generation = std::make_shared<Generation>(next_id_++, session, std::move(request));
        start(generation);
    }
    text_.post([this, generation](bool cancelled) {
        if (cancelled) {
            generation->cancelled = true;
        }
        prepare(generation);
    });
    return generation->id;
}

void Context::post(std::function<void()> command) {
    std::lock_guard lock(mutex_);
    if (!stopped_) {
        commands_.push_back(std::move(command));
        work_.notify_one();
    }
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
            try {
                step();
            } catch (const std::exception & e) { // moving state touches the device as decoding does
                poisoned_ = true;
                log_line(LogLevel::error, std::string("moving state failed: ") + e.what());
            }
        }
        if (poisoned_) {
            fail_batch(0);
        }
        std::erase_if(active_, [](const GenerationPtr & g) { return g->state == Generation::State::done; });
        publish_now_and_then();
        wake();
    }
    close_sessions();
    wake();
}

// Whether there is anything that a step could do.
bool Context::runnable() const {
    return std::any_of(active_.begin(), active_.end(), [&](const GenerationPtr & g) {
        switch (g->state) {
            case Generation::State::preparing: return g->cancelled.load();
            case Generation::State::waiting:   return g->cancelled.load();
            case Generation::State::queued:    return g->cancelled || may_start(*g);
            case Generation::State::decode:    return g->cancelled || !g->ring.full();
            default:                           return true;
        }
    });
}

void Context::take_commands(std::unique_lock<std::mutex> & lock) {
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
    Session & session = *generation.session;
    // What the text thread fills may only be looked at once it is done with it. (The session's next request may come
    // before that: it is prepared by the same thread, so one after the other.)
    if (generation.state != Generation::State::preparing && generation.pipeline) {
        generation.pipeline->flush(generation.ring, Clock::now(), true);
        if (generation.admitted && (!generation.answer.empty() || generation.position == generation.feed.size())) {
            Spelling & spelled = session.spelled;
            spelled.text = generation.prompt_text + generation.answer_text;
            spelled.tokens = generation.prompt;
            spelled.tokens.insert(spelled.tokens.end(), generation.answer.begin(), generation.answer.end());
            spelled.seams = std::move(generation.seams);
            spelled.seams.push_back({spelled.text.size(), spelled.tokens.size()});
        }
    }
    generation.state = Generation::State::done;
    generation.batch_tokens = 0;
    generation.row = -1;
    last.usage = generation.usage;
    session.working = false;
    session.n_tokens = static_cast<uint32_t>(session.tokens.size());
    session.busy = false;
    active_count_--;
    publish();
    if (generation.done) {
        {
            std::lock_guard lock(mutex_);
            generations_.erase(generation.id);
        }
        const auto done = std::move(generation.done);
        if (last.kind == Event::Kind::error) {
            done(std::move(last.error));
        } else if (last.reason == FinishReason::aborted) {
            done(Error{ErrorCode::aborted, "the operation was aborted"});
        } else {
            done(std::move(generation.snapshot));
        }
        return;
    }
    generation.ring.push(std::move(last));
    woke_ = true;
}

void Context::close_sessions() {
    for (auto it = closing_.begin(); it != closing_.end();) {
        auto & [session, done] = *it;
        const bool working = std::any_of(active_.begin(), active_.end(), [&](const GenerationPtr & g) {
            return g->session == session && g->state != Generation::State::done;
        });
        if (working) {
            ++it;
            continue;
        }
        if (!poisoned_) {
            cache_->release(session);
        }
        publish();
        done();
        it = closing_.erase(it);
    }
}

} // namespace ternion
