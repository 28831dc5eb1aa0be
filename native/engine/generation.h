// One request from the moment it is asked for until its last event.
#pragma once

#include "chat.h"
#include "pipeline.h"
#include "ring.h"
#include "sampler.h"
#include "session.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace ternion {

using Clock = std::chrono::steady_clock;

inline double milliseconds(Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

/// Plain data, copied from JavaScript. Exactly one of `chat` with `messages`, `tokens` if there are any, and `text`.
struct GenerateRequest {
    bool chat = false;
    std::vector<ChatMessage> messages;
    std::string text;
    std::vector<llama_token> tokens;
    SamplingParams sampling;
    int32_t max_tokens = -1; // -1: to the end of the context
    std::vector<std::string> stop;
    int32_t n_logprobs = 0;
    bool thinking = true;
    int32_t reasoning_budget = -1;
    int32_t priority = 0; // higher goes first
    int32_t reserve = 1;  // tokens that the context must have room for behind the prompt
    bool shift = false;   // cells behind a part that the prompt leaves out may be moved
};

/// What is to be done with a session. Beside generating: to bring its state into cells and copy it, or to put a snapshot in its
/// place; both take their turn like everything else that needs cells.
enum class Work { generate, capture, adopt };

using SnapshotPtr = std::shared_ptr<const Snapshot>;

struct Generation {
    Generation(uint64_t id_, std::shared_ptr<Session> session_, GenerateRequest request_)
        : id(id_), session(std::move(session_)), request(std::move(request_)), asked(Clock::now()) {}

    const uint64_t id;
    const std::shared_ptr<Session> session;
    GenerateRequest request;
    const Clock::time_point asked;
    Clock::time_point prepared = asked; // ready to run

    std::atomic<bool> cancelled{false};
    Ring ring;

    // Set before it is shared; capture and adopt have no ring's reader, but this.
    Work work = Work::generate;
    SnapshotPtr snapshot;     // to adopt
    std::string conversation; // to capture along
    std::function<void(Result<SnapshotPtr>)> done;

    // Filled on the text thread, read-only afterwards.
    std::shared_ptr<const RenderedChat> rendered; // chat only
    std::string prompt_text;
    std::vector<llama_token> prompt;
    std::unique_ptr<Sampler> sampler;
    std::unique_ptr<Pipeline> pipeline;
    std::vector<llama_token> preserved; // control tokens that are rendered as text
    std::vector<Spelling::Seam> seams;  // of the session's spelling, as far as the prompt keeps its ids

    // Engine thread. `waiting`: for the disk. Only in prefill and decode the session is working, and holds a place among those
    // that are decoded together.
    enum class State { preparing, queued, waiting, prefill, decode, done };
    State state = State::preparing;
    std::vector<llama_token> feed; // what cells have to hold: the prompt, and after an interruption what was answered so far
    size_t position = 0;           // tokens of `feed` that they hold
    size_t checkpoint_at = 0;      // position at which others are known to part: prefilled up to there, then remembered
    size_t rejoin_at = 0;          // position at which stored state goes on: prefilled up to there, then placed again
    bool admitted = false;         // once
    llama_token next = -1;         // chosen, not decoded yet
    int32_t row = -1;          // its logits in the running batch
    uint32_t batch_tokens = 0; // its share of the running batch
    std::vector<llama_token> answer;
    std::string answer_text; // bytes of `answer`, control tokens included
    Usage usage;
    Clock::time_point prefill_start;
    Clock::time_point first_token;

    bool running() const { return state == State::prefill || state == State::decode; }
    /// The last token of `feed` is decoded for the logits behind it.
    bool wants_token() const { return work == Work::generate && answer.empty(); }
};

} // namespace ternion
