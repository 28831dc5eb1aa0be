// What is asked of sessions beside generating: opening, forking, capturing, restoring, closing. Any thread; it happens on the engine
// thread, in order.
#include "context.h"

#include <algorithm>

namespace ternion {

uint64_t Context::open_session(bool pinned) {
    std::lock_guard lock(mutex_);
    const uint64_t id = next_id_++;
    const auto session = std::make_shared<Session>(id);
    session->pinned = pinned;
    sessions_.emplace(id, session);
    return id;
}

Result<uint64_t> Context::fork_session(uint64_t parent_id) {
    std::lock_guard lock(mutex_);
    Error error;
    const auto parent = find_idle(parent_id, error);
    if (!parent) {
        return error;
    }
    const auto child = std::make_shared<Session>(next_id_++);
    child->spelled = parent->spelled;
    child->n_tokens = parent->n_tokens.load();
    parent->busy = false;
    sessions_.emplace(child->id, child);
    // In order with what else is asked of either: nobody has to wait for it.
    commands_.push_back([this, parent, child] {
        cache_->fork(*parent, child);
        publish();
    });
    work_.notify_one();
    return child->id;
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

// Under mutex_: work on an idle session, which is not started yet; null with an error if it is not there or busy.
Context::GenerationPtr Context::work(uint64_t session_id, Work what, std::function<void(Result<SnapshotPtr>)> done, Error & error) {
    const auto session = find_idle(session_id, error);
    if (!session) {
        return nullptr;
    }
    const auto generation = std::make_shared<Generation>(next_id_++, session, GenerateRequest{});
    generation->work = what;
    generation->done = std::move(done);
    return generation;
}

Result<uint64_t> Context::capture(uint64_t session_id, std::string conversation, std::optional<std::vector<llama_token>> only,
                                  std::function<void(Result<SnapshotPtr>)> done) {
    if (only && only->size() > context_) {
        return Error{ErrorCode::context_full,
                     "the conversation has " + std::to_string(only->size()) + " tokens, but the context holds " + std::to_string(context_),
                     {{"requested", static_cast<double>(only->size())}, {"used", 0.0}, {"available", static_cast<double>(context_)}}};
    }
    std::lock_guard lock(mutex_);
    Error error;
    const GenerationPtr generation = work(session_id, Work::capture, std::move(done), error);
    if (!generation) {
        return error;
    }
    generation->conversation = std::move(conversation);
    commands_.push_back([this, generation, only = std::move(only)] {
        Session & session = *generation->session;
        cache_->cut(session, std::min(session.shifted_from, session.tokens.size())); // moved cells are not what a prefill gives
        // With what was answered last, which may not have been decoded yet.
        const std::vector<llama_token> & spelled = session.spelled.tokens;
        const bool longer = spelled.size() <= context_ && std::ranges::mismatch(session.tokens, spelled).in1 == session.tokens.end();
        generation->prompt = only ? *only : longer ? spelled : session.tokens;
        generation->feed = generation->prompt;
        generation->state = Generation::State::queued;
    });
    return start(generation);
}

Result<uint64_t> Context::adopt(uint64_t session_id, SnapshotPtr snapshot, std::function<void(Result<SnapshotPtr>)> done) {
    if (auto same = check_settings(snapshot->settings, cache_->options().settings); !same) {
        return same.error();
    }
    if (auto known = model_->check_tokens(snapshot->tokens); !known) {
        return Error{ErrorCode::state_corrupt, "the snapshot's tokens are not this model's: " + known.error().message};
    }
    if (snapshot->first != 0) {
        return Error{ErrorCode::state_mismatch, "the snapshot holds a part of a conversation only, from token " + std::to_string(snapshot->first) + " on"};
    }
    if (snapshot->tokens.size() > context_) {
        return Error{ErrorCode::state_mismatch,
                     "the snapshot has " + std::to_string(snapshot->tokens.size()) + " tokens, but the context holds " + std::to_string(context_) +
                         "; load the model with a larger context",
                     {{"setting", std::string("context")}, {"found", static_cast<double>(snapshot->tokens.size())}, {"expected", static_cast<double>(context_)}}};
    }
    GenerationPtr generation;
    {
        std::lock_guard lock(mutex_);
        Error error;
        generation = work(session_id, Work::adopt, std::move(done), error);
        if (!generation) {
            return error;
        }
        generation->snapshot = std::move(snapshot);
        start(generation);
    }
    // Behind a request that was aborted while its text was prepared: that still reads what adopting replaces.
    text_.post([this, generation](bool cancelled) {
        if (cancelled) {
            generation->cancelled = true;
        }
        post([generation] {
            if (generation->state == Generation::State::preparing) {
                generation->state = Generation::State::queued;
            }
        });
    });
    return generation->id;
}

void Context::trim_cache(std::function<void()> done) {
    std::unique_lock lock(mutex_);
    if (stopped_) {
        lock.unlock();
        done();
        return;
    }
    commands_.push_back([this, done = std::move(done)] {
        cache_->trim();
        publish();
        done();
    });
    work_.notify_one();
}

void Context::look(std::function<void(const KvCache &)> at) {
    post([this, at = std::move(at)] { at(*cache_); });
}

} // namespace ternion
