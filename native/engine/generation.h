// One request from the moment it is asked for until its last event.
#pragma once

#include "chat.h"
#include "pipeline.h"
#include "ring.h"
#include "sampler.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ternion {

using Clock = std::chrono::steady_clock;

inline double milliseconds(Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

/// Plain data, copied from JavaScript. Exactly one of `chat` with `messages`, and `text`.
struct GenerateRequest {
    bool chat = false;
    std::vector<ChatMessage> messages;
    std::string text;
    SamplingParams sampling;
    int32_t max_tokens = -1; // -1: to the end of the context
    std::vector<std::string> stop;
    int32_t n_logprobs = 0;
    bool thinking = true;
    int32_t reasoning_budget = -1;
};

/// A conversation's place in the engine.
///
/// `spelled` belongs to whoever runs the session's one generation: its text thread while it prepares, then the engine
/// thread. Everything below it belongs to the engine thread.
struct Session {
    explicit Session(uint64_t id_) : id(id_) {}

    const uint64_t id;
    std::atomic<bool> busy{false};
    std::atomic<uint32_t> n_tokens{0}; // of the last prompt and answer

    /// The last prompt and answer, as text and as the ids that the model really saw and chose. A next prompt that
    /// starts with this text keeps these ids: tokenising an answer again may spell it differently.
    struct {
        std::string text;
        std::vector<llama_token> tokens;
    } spelled;

    llama_seq_id sequence = -1;      // -1: not resident
    std::vector<llama_token> cached; // what the sequence's cells hold
    uint64_t last_used = 0;          // step number
};

struct Generation {
    Generation(uint64_t id_, std::shared_ptr<Session> session_, GenerateRequest request_)
        : id(id_), session(std::move(session_)), request(std::move(request_)), asked(Clock::now()) {}

    const uint64_t id;
    const std::shared_ptr<Session> session;
    GenerateRequest request;
    const Clock::time_point asked;

    std::atomic<bool> cancelled{false};
    Ring ring;

    // Filled on the text thread, read-only afterwards.
    std::shared_ptr<const RenderedChat> rendered; // chat only
    std::string prompt_text;
    std::vector<llama_token> prompt;
    std::unique_ptr<Sampler> sampler;
    std::unique_ptr<Pipeline> pipeline;
    std::vector<llama_token> preserved; // control tokens that are rendered as text

    // Engine thread.
    enum class State { preparing, queued, prefill, decode, done };
    State state = State::preparing;
    size_t position = 0;       // prompt tokens that the KV cache holds
    llama_token next = -1;     // chosen, not decoded yet
    int32_t row = -1;          // its logits in the running batch
    uint32_t batch_tokens = 0; // its share of the running batch
    std::vector<llama_token> answer;
    std::string answer_text; // bytes of `answer`, control tokens included
    Usage usage;
    Clock::time_point prefill_start;
    Clock::time_point first_token;
};

} // namespace ternion
