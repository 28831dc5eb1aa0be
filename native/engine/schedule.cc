// Whose turn it is: who is decoded, who waits, who gives way. Engine thread.
//
// Requests of higher priority go first, equals in order of arrival; at most `sequences` run at once. One of higher priority
// interrupts the lowest that runs, at a token boundary: that keeps its cells while there is room, and goes on when a place is
// free. One whose reader does not take its text gives its place to anybody.
#include "context.h"

#include <algorithm>

namespace ternion {
namespace {

// It pays to wait for a prompt that somebody else is prefilling from this many tokens on.
constexpr size_t least_awaited_tokens = 64;
// Beyond its prompt, so that a request does not have to give way after its first few tokens.
constexpr size_t headroom_tokens = 32;

} // namespace

uint32_t Context::running() const {
    return static_cast<uint32_t>(std::ranges::count_if(active_, [](const GenerationPtr & g) { return g->running(); }));
}

/// Whether one of the places is free: `sequences` have rows of logits. Capturing and adopting take none.
bool Context::has_place() const {
    return std::ranges::count_if(active_, [](const GenerationPtr & g) { return g->running() && g->work == Work::generate; }) <
           static_cast<std::ptrdiff_t>(options_.sequences);
}

/// Who would give its place, or with `cells` its cells, to `to`; null: nobody.
Context::GenerationPtr Context::who_yields(const Generation & to, bool cells) const {
    GenerationPtr found;
    for (const GenerationPtr & g : active_) { // the last that fits has the lowest priority and came last
        const bool stalled = g->state == Generation::State::decode && g->ring.full();
        if (g->running() && (cells || g->work == Work::generate) && (stalled || g->request.priority < to.request.priority)) {
            found = g;
        }
    }
    return found;
}

bool Context::may_start(const Generation & g) const {
    return g.state == Generation::State::queued && !g.ring.full() && (g.work != Work::generate || has_place() || who_yields(g, false));
}

// Another prompt begins like this one and is being prefilled: what it leaves in the cache serves both.
bool Context::awaits_prefix(const Generation & generation) const {
    if (cache_->needs_checkpoints() || generation.work != Work::generate) {
        return false;
    }
    size_t at_hand = SIZE_MAX;
    for (const GenerationPtr & other : active_) {
        if (other->state != Generation::State::prefill || other->cancelled || other->request.priority < generation.request.priority) {
            continue;
        }
        const size_t common = agreeing(other->feed, generation.feed);
        if (other->position < common) {
            at_hand = at_hand == SIZE_MAX ? cache_->at_hand(generation.session, generation.feed) : at_hand;
            if (common >= at_hand + least_awaited_tokens) {
                return true;
            }
        }
    }
    return false;
}

void Context::schedule() {
    bool waits_for_disk = false;
    for (const GenerationPtr & generation : std::vector(active_)) { // adopting or capturing ends some at once
        waits_for_disk = waits_for_disk || generation->state == Generation::State::waiting;
        if (!may_start(*generation) || generation->cancelled || awaits_prefix(*generation)) {
            continue;
        }
        if (generation->work == Work::generate && !has_place()) {
            interrupt(*who_yields(*generation, false));
        }
        Admitted admitted = admit(generation);
        while (admitted == Admitted::no_room) {
            const GenerationPtr other = who_yields(*generation, true);
            if (!other) {
                break;
            }
            interrupt(*other);
            cache_->evict(*other->session, true);
            admitted = admit(generation);
        }
        waits_for_disk = waits_for_disk || generation->state == Generation::State::waiting;
        if (admitted == Admitted::no_room) {
            if (running() == 0) {
                fail(*generation, no_room_error());
                continue;
            }
            break; // nobody passes it by
        }
    }
    if (!waits_for_disk) {
        store_->cool_all();
    }
}

Error Context::no_room_error() const {
    const bool ids = std::ranges::all_of(cache_->residents(), [](const SessionPtr & session) { return session && (session->pinned || session->working); });
    if (ids) {
        return {ErrorCode::out_of_memory,
                "all " + std::to_string(cache_->options().ids) + " sequence ids are held by pinned sessions; dispose some, or load with more spareSequences",
                {{"sequenceIds", static_cast<double>(cache_->options().ids)}}};
    }
    return {ErrorCode::out_of_memory,
            "the KV cache has no room: of its " + std::to_string(options_.kv_tokens) + " cells " + std::to_string(cache_->free_cells()) +
                " are free, and pinned sessions keep theirs; dispose some, or load with more kvTokens",
            {{"kvTokens", static_cast<double>(options_.kv_tokens)}, {"free", static_cast<double>(cache_->free_cells())}}};
}

Context::Admitted Context::admit(const GenerationPtr & generation) {
    Generation & g = *generation;
    Session & session = *g.session;
    if (g.work == Work::adopt) {
        return adopt_now(g);
    }
    if (g.request.shift && !g.admitted && cache_->shift(session, g.feed)) {
        g.usage.shifted = static_cast<uint32_t>(session.tokens.size() - session.shifted_from);
    }
    session.working = true;
    const KvCache::Place place = cache_->place(g.session, g.feed, g.feed.size() - g.wants_token(), [this, generation] {
        if (generation->state == Generation::State::waiting) {
            generation->state = Generation::State::queued;
        }
    });
    if (place.placed == KvCache::Placed::ready && cache_->make_room(g.feed.size() - place.cached + (g.work == Work::generate ? headroom(g) : 0), &session)) {
        begin(g, place);
        return Admitted::yes;
    }
    session.working = false;
    if (place.placed == KvCache::Placed::waiting) {
        g.state = Generation::State::waiting;
        return Admitted::later;
    }
    return Admitted::no_room;
}

/// Cells that a request should find beyond its prompt; no more than it may use.
size_t Context::headroom(const Generation & g) const {
    const size_t left = g.request.max_tokens < 0 ? headroom_tokens : static_cast<size_t>(g.request.max_tokens);
    return std::min({headroom_tokens, left, context_ - std::min<size_t>(context_, g.feed.size())});
}

void Context::begin(Generation & g, const KvCache::Place & place) {
    const Clock::time_point now = Clock::now();
    if (g.admitted && g.answer.empty() && place.cached > g.position) { // stored state that it rejoined
        g.usage.cached += static_cast<uint32_t>(place.cached - g.position);
    }
    g.position = place.cached;
    // Where a sequence parts from others, and the state there is nobody's yet, more will part.
    g.checkpoint_at = place.agreed >= place.cached + least_awaited_tokens && place.agreed < g.feed.size() ? place.agreed : 0;
    g.rejoin_at = place.rejoin;
    cache_->hit(*g.session);
    if (!g.admitted) {
        g.admitted = true;
        g.prefill_start = now;
        g.usage.prompt = static_cast<uint32_t>(g.prompt.size());
        g.usage.cached = static_cast<uint32_t>(place.cached);
        g.usage.queue_ms = milliseconds(now - g.prepared);
        std::lock_guard lock(mutex_);
        stats_.queue_ms += g.usage.queue_ms;
    }
    cache_->checkpoint(*g.session); // a turn ended here
    g.state = Generation::State::prefill;
    publish();
    if (g.position == g.feed.size()) {
        fed(g);
    }
}

// At a token boundary. Its cells stay until somebody needs them; then what it has to feed again is all that it had.
void Context::interrupt(Generation & g) {
    g.usage.interrupted++;
    g.state = Generation::State::queued;
    g.session->working = false;
    g.batch_tokens = 0;
    g.row = -1;
    if (!g.answer.empty()) {
        g.feed = g.prompt;
        g.feed.insert(g.feed.end(), g.answer.begin(), g.answer.end() - 1); // the last one is chosen, but not decoded
    }
    std::lock_guard lock(mutex_);
    stats_.preemptions++;
}

// Before a decode: cells for what is in the batch, at the cost of sessions that wait, then of the request that comes last. False:
// the batch is another one now.
bool Context::make_room_for_batch() {
    while (!cache_->make_room(static_cast<size_t>(batch_.size()))) {
        if (running() <= 1) {
            return true; // llama.cpp shall say so
        }
        yield_last();
        return false;
    }
    return true;
}

void Context::yield_last() {
    const auto last = std::find_if(active_.rbegin(), active_.rend(), [](const GenerationPtr & g) { return g->running(); });
    const GenerationPtr generation = *last;
    interrupt(*generation);
    cache_->evict(*generation->session, true);
}

void Context::capture_now(Generation & g) {
    const std::shared_ptr<Snapshot> snapshot = cache_->capture(*g.session);
    if (!snapshot) {
        fail(g, Error{ErrorCode::out_of_memory, "there is no memory for a copy of the session's state"});
        return;
    }
    const Spelling & spelled = g.session->spelled;
    snapshot->text = spelled.tokens == snapshot->tokens ? spelled.text : "";
    snapshot->conversation = std::move(g.conversation);
    g.snapshot = snapshot;
    finish(g, FinishReason::stop);
}

Context::Admitted Context::adopt_now(Generation & g) {
    Session & session = *g.session;
    const Snapshot & snapshot = *g.snapshot;
    switch (cache_->adopt(g.session, snapshot)) {
        case KvCache::Adopted::no_room: return Admitted::no_room;
        case KvCache::Adopted::refused:
            fail(g, Error{ErrorCode::state_mismatch, "llama.cpp refuses the snapshot's state, though model and settings are those it was made with"});
            return Admitted::yes;
        case KvCache::Adopted::done: break;
    }
    session.spelled = {};
    if (!snapshot.text.empty()) {
        session.spelled = {snapshot.text, snapshot.tokens, {{snapshot.text.size(), snapshot.tokens.size()}}};
    }
    finish(g, FinishReason::stop);
    return Admitted::yes;
}

} // namespace ternion
