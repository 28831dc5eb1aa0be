#include "kv_cache.h"

#include <algorithm>
#include <utility>

namespace ternion {
namespace {

// Below this many tokens prefilling is as fast as moving state, and keeps the store free of crumbs.
constexpr size_t least_stored_tokens = 32;
// A session's state may lie in so many pieces, one per time that it was evicted; then it is written as one.
constexpr size_t most_pieces = 8;

} // namespace

KvCache::KvCache(KvMemory memory, Options options, StateStore & store)
    : memory_(memory), options_(std::move(options)), store_(store), residents_(options_.ids) {}

// ---- who gives way --------------------------------------------------------------------------------------------------

SessionPtr KvCache::victim(const Session * spared) const {
    SessionPtr best;
    for (const SessionPtr & session : residents_) {
        if (!session || session->working || session->pinned || session.get() == spared) {
            continue;
        }
        const bool before = !best || session->retained > best->retained ||
                            (session->retained == best->retained && session->last_used < best->last_used);
        best = before ? session : best;
    }
    return best;
}

bool KvCache::give_way(const Session * spared) {
    const SessionPtr session = victim(spared);
    if (session) {
        evict(*session, !session->retained);
    }
    return session != nullptr;
}

bool KvCache::make_room(size_t cells, const Session * spared) {
    while (free_cells() < cells) {
        if (!give_way(spared)) {
            return false;
        }
    }
    return true;
}

bool KvCache::claim(const SessionPtr & session) {
    for (int pass = 0; pass < 2; ++pass) {
        const auto free = std::ranges::find(residents_, nullptr);
        if (free != residents_.end()) {
            session->sequence = static_cast<llama_seq_id>(free - residents_.begin());
            *free = session;
            return true;
        }
        if (!give_way(session.get())) {
            break;
        }
    }
    return false;
}

// The cells and the id; what its tokens were stays known.
void KvCache::vacate(Session & session) {
    memory_.clear(session.sequence);
    tree_.remove(session.sequence);
    residents_[static_cast<size_t>(std::exchange(session.sequence, -1))] = nullptr;
    session.window_from = 0;
    session.shifted_from = SIZE_MAX;
}

void KvCache::evict(Session & session, bool keep_state) {
    if (session.sequence < 0) {
        return;
    }
    if (keep_state) {
        store_tail(session);
    }
    counts_.evictions += !session.retained;
    vacate(session);
}

// What nobody else holds and the store does not have yet. State of moved cells is not kept: it is not what a prefill would give.
void KvCache::store_tail(Session & session) {
    const size_t end = session.tokens.size();
    size_t begin = std::min(tree_.shared(session.sequence), end);
    begin = begin < least_stored_tokens ? 0 : begin; // a piece behind a beginning too short to be stored would have nothing to go on from
    forget_stored(session, end);
    const bool whole = session.stored.size() >= most_pieces;
    for (const auto & entry : session.stored) {
        begin = !whole && entry->first <= begin && entry->tokens.size() <= end ? std::max(begin, entry->tokens.size()) : begin;
    }
    if (memory_.window() > 0) { // the window reaches back into what others hold, and may forget
        begin = std::min(begin, end - std::min(end, memory_.window() + 1));
    }
    if (session.shifted_from < end || end - begin < least_stored_tokens) {
        return;
    }
    if (!store_.takes((end - begin) * options_.cell_bytes)) {
        store_.refuse();
        return;
    }
    Snapshot snapshot;
    snapshot.settings = options_.settings;
    snapshot.tokens = session.tokens;
    snapshot.first = static_cast<uint32_t>(begin);
    if (begin == 0) {
        snapshot.state = memory_.capture(session.sequence, false);
    } else {
        memory_.share(session.sequence, scratch(), begin, end);
        snapshot.state = memory_.capture(scratch(), false);
        memory_.clear(scratch());
    }
    if (snapshot.state.size == 0) {
        return;
    }
    counts_.captured_bytes += snapshot.state.size;
    if (auto entry = store_.put(std::move(snapshot))) {
        if (whole) {
            for (const auto & piece : std::exchange(session.stored, {})) {
                store_.release(piece);
            }
        }
        session.stored.push_back(std::move(entry));
    }
}

// Stored state that is gone, or of tokens that the session no longer has.
void KvCache::forget_stored(Session & session, size_t agreed) {
    std::erase_if(session.stored, [&](const StateStore::EntryPtr & entry) {
        const bool useless = store_.gone(entry) || entry->first >= agreed || agreeing(entry->tokens, session.tokens) < std::min(agreed, entry->tokens.size());
        if (useless) {
            store_.release(entry);
        }
        return useless;
    });
}

// ---- the life of a session ------------------------------------------------------------------------------------------

void KvCache::append(Session & session, PrefixTree::Tokens tokens) {
    session.tokens.insert(session.tokens.end(), tokens.begin(), tokens.end());
    session.last_used = ++clock_;
    tree_.append(session.sequence, tokens);
}

size_t KvCache::cut(Session & session, size_t keep) {
    if (session.sequence < 0 || keep >= session.tokens.size()) {
        return session.tokens.size();
    }
    if (!memory_.resumable(session.sequence, session.tokens.size(), keep, session.window_from) || !memory_.cut(session.sequence, keep)) {
        memory_.clear(session.sequence);
        keep = 0;
    }
    tree_.cut(session.sequence, keep);
    session.tokens.resize(keep);
    session.shifted_from = keep <= session.shifted_from ? SIZE_MAX : session.shifted_from;
    return keep;
}

void KvCache::hit(const Session & session) {
    counts_.hits += !session.tokens.empty();
    counts_.hit_tokens += session.tokens.size();
}

void KvCache::repair(Session & session) {
    if (session.sequence >= 0 && !memory_.cut(session.sequence, session.tokens.size())) {
        tree_.remove(session.sequence);
        session.tokens.clear();
    }
}

void KvCache::release(const SessionPtr & session) {
    for (const auto & entry : std::exchange(session->stored, {})) {
        store_.release(entry);
    }
    session->pinned = session->working = false;
    if (session->sequence < 0) {
        return;
    }
    const bool of_use = session->tokens.size() >= least_stored_tokens && session->shifted_from >= session->tokens.size() &&
                        tree_.shared(session->sequence) < session->tokens.size();
    session->retained = of_use;
    if (!of_use) {
        vacate(*session);
    }
}

void KvCache::trim() {
    for (const SessionPtr & session : std::vector(residents_)) {
        if (session && session->retained) {
            vacate(*session);
        }
    }
    checkpoints_.clear();
    counts_.checkpoints = counts_.checkpoint_bytes = 0;
}

void KvCache::fork(Session & parent, const SessionPtr & child) {
    child->tokens = parent.tokens;
    child->n_tokens = parent.n_tokens.load();
    child->stored = parent.stored;
    for (const auto & entry : child->stored) {
        store_.hold(entry);
    }
    child->last_used = ++clock_;
    const bool spare = std::ranges::any_of(residents_, [](const SessionPtr & session) { return !session || session->retained; });
    if (parent.sequence < 0 || !spare || !claim(child)) {
        return; // its first request shares what is there then
    }
    const size_t own = std::min(parent.shifted_from, parent.tokens.size()); // moved cells are nobody else's
    child->tokens.resize(own);
    child->window_from = parent.window_from;
    memory_.share(parent.sequence, child->sequence, 0, own);
    tree_.share(parent.sequence, child->sequence, own);
}

bool KvCache::shift(Session & session, PrefixTree::Tokens wanted) {
    if (session.sequence < 0 || !memory_.can_shift()) {
        return false;
    }
    const PrefixTree::Tokens held = session.tokens;
    const size_t begin = agreeing(held, wanted);
    if (tree_.shared(session.sequence) > begin) {
        trim(); // those whose owners have gone are no reason
    }
    if (tree_.shared(session.sequence) > begin || begin == 0) {
        return false;
    }
    const PrefixTree::Tokens rest = wanted.subspan(begin);
    size_t end = 0, length = least_stored_tokens - 1;
    for (size_t at = begin + 1; at + length < held.size(); ++at) {
        const size_t n = agreeing(held.subspan(at), rest);
        if (n > length) {
            end = at;
            length = n;
        }
    }
    if (end == 0 || !memory_.cut(session.sequence, end + length)) {
        return false;
    }
    memory_.close_gap(session.sequence, begin, end);
    tree_.cut(session.sequence, begin);
    tree_.append(session.sequence, rest.first(length));
    session.tokens.resize(begin);
    session.tokens.insert(session.tokens.end(), rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(length));
    session.shifted_from = std::min(session.shifted_from, begin);
    return true;
}

void KvCache::checkpoint(Session & session) {
    const PrefixTree::Tokens tokens = session.tokens;
    if (!needs_checkpoints() || session.sequence < 0 || tokens.empty()) {
        return;
    }
    for (Checkpoint & known : checkpoints_) {
        if (std::ranges::equal(known.tokens, tokens)) {
            known.used = ++clock_;
            return;
        }
    }
    Bytes state = memory_.capture(session.sequence, true);
    if (state.size == 0 || state.size > options_.checkpoint_bytes) {
        return;
    }
    counts_.checkpoint_bytes += state.size;
    checkpoints_.push_back({session.tokens, std::move(state), ++clock_});
    while (counts_.checkpoint_bytes > options_.checkpoint_bytes) {
        const auto oldest = std::ranges::min_element(checkpoints_, {}, &Checkpoint::used);
        counts_.checkpoint_bytes -= oldest->state.size;
        checkpoints_.erase(oldest);
    }
    counts_.checkpoints = checkpoints_.size();
}

// ---- snapshots ------------------------------------------------------------------------------------------------------

std::shared_ptr<Snapshot> KvCache::capture(Session & session) {
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->settings = options_.settings;
    snapshot->tokens = session.tokens;
    if (!session.tokens.empty()) {
        snapshot->state = memory_.capture(session.sequence, false);
        if (snapshot->state.size == 0) {
            return nullptr;
        }
    }
    return snapshot;
}

// A state may say anything of itself: it has to end where its tokens do.
bool KvCache::fill_scratch(const Snapshot & snapshot) {
    if (memory_.restore(scratch(), snapshot.state, false)) {
        if (memory_.last_position(scratch()) + 1 == static_cast<llama_pos>(snapshot.tokens.size())) {
            return true;
        }
        memory_.clear(scratch());
    }
    return false;
}

KvCache::Adopted KvCache::adopt(const SessionPtr & session, const Snapshot & snapshot) {
    const PrefixTree::Tokens tokens = snapshot.tokens;
    if (!make_room(tokens.size(), session.get())) {
        if (session->working) {
            return Adopted::no_room;
        }
        evict(*session, true); // it stays what it is, though not where it is
        if (!make_room(tokens.size())) {
            return Adopted::no_room;
        }
    }
    // Whoever gives way passes through the scratch sequence: the id is claimed before that is filled.
    const bool homeless = session->sequence < 0;
    if (homeless && !claim(session)) {
        return Adopted::no_room;
    }
    if (!tokens.empty() && !fill_scratch(snapshot)) {
        if (homeless) {
            vacate(*session);
        }
        return Adopted::refused;
    }
    // The cells of a beginning that somebody has already are given back.
    memory_.clear(session->sequence);
    tree_.remove(session->sequence);
    size_t shared = 0;
    if (memory_.kind() == KvKind::full) {
        for (const auto & [holder, length] : tree_.match(tokens)) {
            const size_t usable = std::min(length, residents_[static_cast<size_t>(holder)]->shifted_from);
            if (usable > shared) {
                tree_.remove(session->sequence);
                tree_.share(holder, session->sequence, usable);
                memory_.clear(session->sequence);
                memory_.share(holder, session->sequence, 0, usable);
                shared = usable;
            }
        }
    }
    memory_.share(scratch(), session->sequence, shared, tokens.size());
    memory_.clear(scratch());
    tree_.append(session->sequence, tokens.subspan(shared));
    session->tokens = snapshot.tokens;
    session->window_from = tokens.size() - std::min(tokens.size(), memory_.window() + 1);
    session->shifted_from = SIZE_MAX;
    session->last_used = ++clock_;
    forget_stored(*session, tokens.size());
    counts_.restores++;
    counts_.restored_bytes += snapshot.state.size;
    return Adopted::done;
}

bool KvCache::consistent() const {
    for (size_t i = 0; i < residents_.size(); ++i) {
        const auto sequence = static_cast<llama_seq_id>(i);
        const SessionPtr & session = residents_[i];
        const size_t length = session ? session->tokens.size() : 0;
        if (tree_.length(sequence) != length || memory_.last_position(sequence) != static_cast<llama_pos>(length) - 1 ||
            (session && session->sequence != sequence)) {
            return false;
        }
    }
    return memory_.last_position(scratch()) < 0 && memory_.last_position(spare()) < 0 && tree_.tokens() <= options_.cells;
}

} // namespace ternion
