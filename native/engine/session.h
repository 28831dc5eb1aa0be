// A conversation's place in the engine.
#pragma once

#include "state_store.h"

#include "llama.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ternion {

/// A prompt and its answer, as text and as the ids that the model really saw and chose. A next prompt whose text begins alike
/// keeps these ids as far as a seam: tokenising an answer again may spell it differently.
struct Spelling {
    struct Seam {
        size_t bytes, tokens; // an answer ends here
    };
    std::string text;
    std::vector<llama_token> tokens;
    std::vector<Seam> seams; // ascending
};

/// `spelled` belongs to whoever runs the session's one request: its text thread while it prepares, then the engine thread; to the
/// caller of Context::fork() while there is none. What stands below it belongs to the engine thread.
struct Session {
    explicit Session(uint64_t id_) : id(id_) {}

    const uint64_t id;
    std::atomic<bool> busy{false};
    std::atomic<uint32_t> n_tokens{0}; // of the last prompt and answer, resident or not
    Spelling spelled;

    llama_seq_id sequence = -1;      // -1: not resident
    std::vector<llama_token> tokens; // what its cells hold; of a session that is not resident: held
    size_t window_from = 0;          // from here on windowed layers have their cells, as far as the window reaches
    size_t shifted_from = SIZE_MAX;  // cells from here on were moved: they know what was cut out, and are nobody else's
    uint64_t last_used = 0;          // KvCache's clock
    bool working = false;            // in a batch, or about to be: its cells stay
    bool pinned = false;             // its cells stay while there is any other way
    bool retained = false;           // its owner has gone; kept as a prefix for others while there is room
    std::vector<StateStore::EntryPtr> stored; // evicted state, oldest first; held
};

using SessionPtr = std::shared_ptr<Session>;

} // namespace ternion
