// The KV cache of a context: which session holds which cells, what is shared, who gives way.
#pragma once

#include "kv_memory.h"
#include "prefix_tree.h"
#include "session.h"
#include "state_store.h"

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <vector>

namespace ternion {

struct CacheCounts {
    uint64_t hits = 0, hit_tokens = 0;    // placements that found something, and how much
    uint64_t evictions = 0, restores = 0; // sessions that gave their cells up; states that came back
    uint64_t captured_bytes = 0, restored_bytes = 0;
    uint64_t checkpoints = 0, checkpoint_bytes = 0; // at hand now
};

/// A session is resident while its tokens have cells under a sequence id of its own. Sessions share the cells of a common
/// beginning, whoever computed them. When cells or ids run out, the one that was used longest ago gives way: what no other
/// session shares goes to the store. What a session's next request asks for is brought back, or shared again, as far as it is at
/// hand; the rest is prefilled. Engine thread.
class KvCache {
  public:
    struct Options {
        uint32_t cells = 0;
        uint32_t ids = 1;              // sequence ids for sessions; two more are used for moving state
        uint64_t cell_bytes = 0;       // of all layers, about
        uint64_t checkpoint_bytes = 0; // for states of windowed and recurrent models to go back to
        std::vector<Setting> settings; // that state depends on
    };
    static constexpr uint32_t own_ids = 2;

    KvCache(KvMemory memory, Options options, StateStore & store);

    enum class Placed { ready, waiting, no_room };
    struct Place {
        Placed placed;
        size_t cached = 0; // the session's cells hold so many of the tokens
        size_t agreed = 0; // somebody's cells held so many, whether or not one can go on from there
        size_t rejoin = 0; // stored state goes on at this position: once prefilled so far, place() brings that; 0: there is none
    };
    /// Makes the session resident with as much of the beginning of `wanted` as is at hand, at most `limit`. `waiting`: state is
    /// being read from disk, `again` is run on the engine thread when that is over. `no_room`: too much is working or pinned.
    Place place(const SessionPtr & session, PrefixTree::Tokens wanted, size_t limit, const std::function<void()> & again);
    /// A request goes on from what place() found.
    void hit(const Session & session);
    /// How much of `wanted` place() would find at most.
    size_t at_hand(const SessionPtr & session, PrefixTree::Tokens wanted) const;

    /// Tokens that were decoded for a resident session.
    void append(Session & session, PrefixTree::Tokens tokens);
    /// Drops what lies behind the first `keep`, or everything if that cannot be done; returns what stays.
    size_t cut(Session & session, size_t keep);
    /// After a decode that went wrong: whatever of it may be there goes.
    void repair(Session & session);
    /// Gives cells back. `keep_state`: what nobody else holds goes to the store first.
    void evict(Session & session, bool keep_state);
    /// Its owner has gone: cells and stored state, or all but cells that may serve as a prefix.
    void release(const SessionPtr & session);
    /// `child`, which holds nothing, becomes what `parent` is.
    void fork(Session & parent, const SessionPtr & child);
    /// Closes the gap that a prompt leaves out of the session's tokens by moving cells: `wanted` goes on at `begin` with what the
    /// session has from some later position. Nothing happens if cells are shared, or cannot be moved. Returns whether it did.
    bool shift(Session & session, PrefixTree::Tokens wanted);

    /// Remembers the state behind the session's tokens, for models that cannot go back without.
    void checkpoint(Session & session);
    bool needs_checkpoints() const { return memory_.kind() != KvKind::full; }

    /// The session's state. Null: there is no memory for it.
    std::shared_ptr<Snapshot> capture(Session & session);
    /// The session becomes what the snapshot is; it stays what it was if there is no room (false) or the state is refused.
    enum class Adopted { done, no_room, refused };
    Adopted adopt(const SessionPtr & session, const Snapshot & snapshot);

    /// Makes sessions that do not work give way until `cells` are free.
    bool make_room(size_t cells, const Session * spared = nullptr);
    /// Makes one give way, whatever the room: for when llama.cpp finds none.
    bool give_way(const Session * spared = nullptr);
    /// Drops what only waits to be of use: retained prefixes, checkpoints.
    void trim();

    size_t free_cells() const { return options_.cells - static_cast<size_t>(tree_.tokens()); }
    const PrefixTree & tree() const { return tree_; }
    const std::vector<SessionPtr> & residents() const { return residents_; } // by sequence id; null: free
    const CacheCounts & counts() const { return counts_; }
    const Options & options() const { return options_; }
    KvMemory & memory() { return memory_; }

    /// Whether tree, sessions and llama.cpp agree; for tests and after failures.
    bool consistent() const;

  private:
    struct Checkpoint {
        std::vector<llama_token> tokens;
        Bytes state;
        uint64_t used;
    };
    struct Route; // kv_route.cc: where the beginning of a prompt is to come from

    Route route(const Session & session, PrefixTree::Tokens wanted, size_t limit) const;
    size_t rejoin(const Route & route, PrefixTree::Tokens wanted, size_t limit) const;
    void start_from(const SessionPtr & session, const Route & route, PrefixTree::Tokens wanted);
    bool add_stored(Session & session, const StateStore::EntryPtr & entry, size_t end, PrefixTree::Tokens wanted);
    void trim_cells(Session & session, size_t keep);
    void forget_cells(Session & session);
    bool fill_scratch(const Snapshot & snapshot);
    size_t most_room(const Session & session) const;
    bool claim(const SessionPtr & session);
    void vacate(Session & session);
    SessionPtr victim(const Session * spared) const;
    void store_tail(Session & session);
    void forget_stored(Session & session, size_t agreed);
    const Checkpoint * best_checkpoint(PrefixTree::Tokens wanted, size_t limit) const;
    llama_seq_id scratch() const { return static_cast<llama_seq_id>(options_.ids); }
    llama_seq_id spare() const { return static_cast<llama_seq_id>(options_.ids) + 1; }

    KvMemory memory_;
    const Options options_;
    StateStore & store_;
    PrefixTree tree_;
    std::vector<SessionPtr> residents_;
    std::list<Checkpoint> checkpoints_;
    CacheCounts counts_;
    uint64_t clock_ = 0;
};

} // namespace ternion
