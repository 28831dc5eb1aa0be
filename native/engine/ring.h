// What a generation has to tell, waiting for JavaScript to take it.
#pragma once

#include "error.h"
#include "sampler.h"

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace ternion {

struct Usage {
    uint32_t prompt = 0;    // tokens of the prompt, cached ones included
    uint32_t cached = 0;    // prompt tokens that were already in the KV cache
    uint32_t generated = 0; // sampled tokens; an end-of-generation token does not count
    uint32_t reasoning = 0; // generated tokens inside the thinking block
    double prefill_ms = 0;  // from the first prefill step to the first token
    double decode_ms = 0;   // from the first token to the last
    double first_token_ms = 0; // from the request to the first token
    double queue_ms = 0;       // from when the request was prepared to its first step
    uint32_t shifted = 0;      // prompt tokens whose cells were moved instead of prefilled
    uint32_t interrupted = 0;  // times that it gave its place, or its cells, to another
};

enum class FinishReason { stop, length, aborted };

struct LogprobEntry {
    TokenLogprobs logprobs;
    std::string chosen_text;
    std::vector<std::string> top_text;
};

struct Event {
    enum class Kind { progress, text, reasoning, logprobs, finish, error };
    Kind kind;
    std::string text = {};                    // text, reasoning
    uint32_t done = 0, total = 0, cached = 0; // progress, tokens
    double remaining_ms = -1;                 // progress, estimated; -1: not known yet
    std::vector<LogprobEntry> logprobs = {};
    FinishReason reason = FinishReason::stop; // finish
    Usage usage = {};                         // finish, error
    Error error = {};
};

/// Bounded by its reader: the engine asks full() before it decodes a sequence further, and never drops an event.
/// push() on the engine thread, drain() on the JavaScript thread.
class Ring {
  public:
    /// Consecutive pieces of one kind of text are joined, progress replaces unread progress.
    void push(Event event);
    /// `was_full` tells whether the sequence had been held up.
    std::vector<Event> drain(bool & was_full);
    bool full() const;

  private:
    static constexpr size_t high_water_bytes = 64 * 1024;

    mutable std::mutex mutex_;
    std::vector<Event> events_;
    size_t bytes_ = 0;
};

} // namespace ternion
