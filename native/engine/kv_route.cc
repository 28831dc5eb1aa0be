// Where the beginning of a prompt comes from: the session's own cells, those of another, checkpoints, the store. Engine thread.
#include "kv_cache.h"

#include <algorithm>

namespace ternion {
namespace {

// State that brings fewer tokens than this is not worth being moved where every position has its cells.
constexpr size_t least_restored_tokens = 32;

} // namespace

/// The first `cells` are those of `source`. Then either nothing, or the state of a checkpoint there, or stored state.
struct KvCache::Route {
    struct Piece {
        StateStore::EntryPtr entry;
        size_t end; // of what it is good for
    };
    llama_seq_id source = -1;
    size_t cells = 0;
    const Checkpoint * checkpoint = nullptr;
    std::vector<Piece> stored;
    size_t reach = 0;
    size_t agreed = 0; // what anybody's cells come to
};

const KvCache::Checkpoint * KvCache::best_checkpoint(PrefixTree::Tokens wanted, size_t limit) const {
    const Checkpoint * best = nullptr;
    for (const Checkpoint & point : checkpoints_) {
        const size_t n = point.tokens.size();
        if (n <= limit && (!best || n > best->tokens.size()) && agreeing(point.tokens, wanted) == n) {
            best = &point;
        }
    }
    return best;
}

KvCache::Route KvCache::route(const Session & session, PrefixTree::Tokens wanted, size_t limit) const {
    const bool full = memory_.kind() == KvKind::full;
    Route best;             // where one can go on from, by cells in the cache alone
    Route furthest;         // whose cells agree furthest
    const auto consider = [&](llama_seq_id sequence, size_t length) {
        const Session & holder = *residents_[static_cast<size_t>(sequence)];
        length = std::min({length, limit, &holder == &session ? SIZE_MAX : holder.shifted_from});
        if (length > furthest.reach) {
            furthest = {.source = sequence, .cells = length, .checkpoint = nullptr, .stored = {}, .reach = length, .agreed = 0};
        }
        if (length > best.reach && (full || memory_.resumable(sequence, holder.tokens.size(), length, holder.window_from))) {
            best = {.source = sequence, .cells = length, .checkpoint = nullptr, .stored = {}, .reach = length, .agreed = 0};
        }
    };
    if (session.sequence >= 0) { // first, so that nobody else wins by the same length
        consider(session.sequence, agreeing(session.tokens, wanted));
    }
    for (const auto & [holder, length] : tree_.match(wanted)) {
        consider(holder, length);
    }
    if (!full) {
        if (const Checkpoint * point = best_checkpoint(wanted, furthest.reach); point && point->tokens.size() > best.reach) {
            best = {.source = furthest.source, .cells = point->tokens.size(), .checkpoint = point, .stored = {}, .reach = point->tokens.size(), .agreed = 0};
        }
    }

    best.agreed = furthest.reach;

    // Stored state goes on where cells end. A window or a recurrent state is right only where a piece ends.
    Route longer = furthest;
    longer.agreed = furthest.reach;
    size_t whole = 0; // pieces up to the last one that ends right
    const auto candidates = store_.match(wanted);
    for (;;) {
        const StateStore::Match * next = nullptr;
        for (const auto & match : candidates) {
            const size_t gain = std::min(match.length, limit) - std::min({match.length, limit, longer.reach});
            const size_t best_gain = next ? std::min(next->length, limit) - longer.reach : (full ? least_restored_tokens - 1 : 0);
            const bool fits = match.entry->tokens.size() - match.entry->first <= options_.cells; // it comes back whole
            next = fits && match.entry->first <= longer.reach && gain > best_gain ? &match : next;
        }
        if (!next) {
            break;
        }
        longer.reach = std::min(next->length, limit);
        longer.stored.push_back({next->entry, longer.reach});
        whole = full || longer.reach == next->entry->tokens.size() ? longer.stored.size() : whole;
    }
    longer.stored.resize(whole);
    if (longer.stored.empty() || longer.stored.back().end <= best.reach) {
        return best;
    }
    longer.reach = longer.stored.back().end;
    longer.cells = full ? longer.cells : std::min(longer.cells, longer.stored.front().entry->first);
    return longer;
}

/// Where stored state goes on whose beginning is nowhere any more: it was others', who have gone. Only where it brings more than it
/// takes to get there.
size_t KvCache::rejoin(const Route & way, PrefixTree::Tokens wanted, size_t limit) const {
    size_t best = 0, best_end = 0;
    for (const auto & [entry, length] : store_.match(wanted)) {
        const size_t first = entry->first, end = std::min(length, limit);
        const bool right = memory_.kind() == KvKind::full || end == entry->tokens.size();
        if (right && first > way.reach && end > best_end && end - first >= std::max(least_restored_tokens, first - way.reach)) {
            best = first;
            best_end = end;
        }
    }
    return best;
}

size_t KvCache::at_hand(const SessionPtr & session, PrefixTree::Tokens wanted) const {
    return route(*session, wanted, wanted.size()).reach;
}

/// Cells that are free once everybody has given way who may; those of `session` itself are counted as free.
size_t KvCache::most_room(const Session & session) const {
    size_t taken = 0;
    for (const PrefixTree::Node & node : tree_.nodes()) {
        const bool stays = std::ranges::any_of(node.holders, [&](PrefixTree::Holder holder) {
            const Session & other = *residents_[static_cast<size_t>(holder)];
            return &other != &session && (other.working || other.pinned);
        });
        taken += stays ? node.length : 0;
    }
    return options_.cells - std::min<size_t>(options_.cells, taken);
}

KvCache::Place KvCache::place(const SessionPtr & session, PrefixTree::Tokens wanted, size_t limit, const std::function<void()> & again) {
    session->last_used = ++clock_;
    Route way = route(*session, wanted, limit);
    bool missing = false;
    for (const auto & [entry, end] : way.stored) {
        if (!store_.state(entry)) {
            if (!missing && wanted.size() - std::min(way.cells, entry->first) > most_room(*session)) { // a piece comes back whole
                return {.placed = Placed::no_room}; // else it would be read at every step until there is
            }
            store_.fetch(entry, again);
            missing = true;
        }
    }
    if (missing) {
        return {.placed = Placed::waiting};
    }
    if (session->sequence < 0) {
        // What it finds has to stay while others give way for it.
        const SessionPtr source = way.source >= 0 ? residents_[static_cast<size_t>(way.source)] : nullptr;
        const bool worked = source && std::exchange(source->working, true);
        const bool claimed = claim(session) || (source && !worked && ((source->working = false), claim(session)));
        if (source && !worked) {
            source->working = false;
        }
        if (!claimed) {
            return {.placed = Placed::no_room};
        }
        session->tokens.clear();
        session->shifted_from = SIZE_MAX;
        way = route(*session, wanted, limit);
    }
    start_from(session, way, wanted);
    for (const auto & [entry, end] : way.stored) {
        if (!add_stored(*session, entry, end, wanted)) {
            if (memory_.kind() != KvKind::full) { // its window or recurrent state is that of some other place
                forget_cells(*session);
            }
            break;
        }
    }
    for (const auto & [entry, end] : way.stored) {
        store_.cool(entry);
    }
    const size_t rejoined = rejoin(way, wanted, limit);
    if (rejoined == 0) {
        forget_stored(*session, session->tokens.size());
    }
    return {Placed::ready, session->tokens.size(), way.agreed, rejoined};
}

void KvCache::start_from(const SessionPtr & session, const Route & way, PrefixTree::Tokens wanted) {
    const llama_seq_id own = session->sequence;
    const bool resume = way.stored.empty() && !way.checkpoint;
    if (way.source == own) {
        if (resume || memory_.kind() == KvKind::full) {
            cut(*session, way.cells);
        } else {
            trim_cells(*session, way.cells);
        }
    } else {
        memory_.clear(own);
        tree_.remove(own);
        session->window_from = 0;
        session->shifted_from = SIZE_MAX;
        if (way.source >= 0 && way.cells > 0) { // a recurrent state would come along even without a cell
            memory_.share(way.source, own, 0, way.cells);
            tree_.share(way.source, own, way.cells);
            session->window_from = residents_[static_cast<size_t>(way.source)]->window_from;
        }
        session->tokens.assign(wanted.begin(), wanted.begin() + static_cast<std::ptrdiff_t>(way.cells));
    }
    if (way.checkpoint) {
        if (memory_.restore(own, way.checkpoint->state, true)) {
            session->window_from = way.cells - std::min(way.cells, memory_.window() + 1);
            std::ranges::find_if(checkpoints_, [&](const Checkpoint & point) { return &point == way.checkpoint; })->used = ++clock_;
        } else {
            forget_cells(*session);
        }
    }
}

// Everything under its id, also what no token stands for.
void KvCache::forget_cells(Session & session) {
    memory_.clear(session.sequence);
    tree_.remove(session.sequence);
    session.tokens.clear();
    session.window_from = 0;
    session.shifted_from = SIZE_MAX;
}

// Cells alone: a window or a recurrent state is left as it may be, for a checkpoint or stored state to replace. llama.cpp does
// not cut sequences whose state it cannot take back, but does copy a part of them.
void KvCache::trim_cells(Session & session, size_t keep) {
    if (keep < session.tokens.size()) {
        if (keep > 0) {
            memory_.share(session.sequence, spare(), 0, keep);
        }
        memory_.clear(session.sequence);
        if (keep > 0) {
            memory_.share(spare(), session.sequence, 0, keep);
            memory_.clear(spare());
        }
        tree_.cut(session.sequence, keep);
        session.tokens.resize(keep);
    }
}

// False: it gave way meanwhile, there is no room, or llama.cpp refuses it.
bool KvCache::add_stored(Session & session, const StateStore::EntryPtr & entry, size_t end, PrefixTree::Tokens wanted) {
    const bool full = memory_.kind() == KvKind::full;
    const std::shared_ptr<const Snapshot> snapshot = store_.state(entry);
    if (!snapshot || snapshot->first > session.tokens.size()) {
        return false;
    }
    const size_t from = full ? session.tokens.size() : std::min(session.tokens.size(), static_cast<size_t>(snapshot->first));
    if (!make_room(snapshot->tokens.size() - snapshot->first, &session) || !fill_scratch(*snapshot)) {
        return false;
    }
    if (!full) {
        trim_cells(session, from);
        session.window_from = end - std::min(end, memory_.window() + 1);
    }
    memory_.share(scratch(), session.sequence, from, end);
    memory_.clear(scratch());
    const PrefixTree::Tokens added = wanted.subspan(from, end - from);
    tree_.append(session.sequence, added);
    session.tokens.insert(session.tokens.end(), added.begin(), added.end());
    if (std::ranges::find(session.stored, entry) == session.stored.end()) {
        store_.hold(entry);
        session.stored.push_back(entry);
    }
    if (end == entry->tokens.size()) {
        store_.claim(entry);
    }
    counts_.restores++;
    counts_.restored_bytes += snapshot->state.size;
    return true;
}

} // namespace ternion
