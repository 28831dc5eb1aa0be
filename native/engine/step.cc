// One step of the engine: admit, batch, decode, take tokens. Engine thread.
#include "context.h"

#include "log.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace ternion {
namespace {

// While others decode, a prefill chunk may hold them up for about this long.
constexpr double shared_prefill_ms = 40.0;
constexpr int32_t smallest_chunk = 32;
// Of decode(): not even a request that is alone finds cells.
constexpr int32_t no_cells = -101;

} // namespace

void Context::step() {
    schedule();
    do {
        fill_batch();
    } while (!batch_.empty() && !make_room_for_batch());
    if (batch_.empty()) {
        return;
    }
    const Clock::time_point start = Clock::now();
    const int32_t status = decode();
    const Clock::duration took = Clock::now() - start;
    if (status == 0) {
        if (experts_) {
            experts_->between_steps();
        }
        after_decode(took);
    } else if (status == 1) {
        yield_last(); // no cells, as llama.cpp counts them
    } else if (status == 2) {
        undo_batch(); // every request in it was cancelled; they are retired at the next round
    } else {
        fail_batch(status);
    }
}

// ---- batch ----------------------------------------------------------------------------------------------------------

void Context::fill_batch() {
    batch_.clear();
    bool decoding = false;
    std::vector<Generation *> prefilling;
    for (const GenerationPtr & g : active_) {
        g->row = -1;
        g->batch_tokens = 0;
        if (g->cancelled) {
            continue;
        }
        // A full ring parks its sequence: JavaScript has not taken what there is.
        if (g->state == Generation::State::decode && !g->ring.full()) {
            decoding = true;
            g->row = batch_.add(g->next, static_cast<llama_pos>(g->session->tokens.size()), g->session->sequence, true);
            g->batch_tokens = 1;
        } else if (g->state == Generation::State::prefill) {
            prefilling.push_back(g.get());
        }
    }
    if (prefilling.empty()) {
        return;
    }
    int32_t budget = batch_.room();
    if (decoding) {
        const double chunk = prefill_tokens_per_ms_ > 0.0 ? prefill_tokens_per_ms_ * shared_prefill_ms : smallest_chunk;
        budget = std::min(budget, std::max(smallest_chunk, static_cast<int32_t>(chunk)));
    }
    // Those of the highest priority share it evenly, what is left goes to the next; whose turn it is first moves on.
    for (auto first = prefilling.begin(); first != prefilling.end() && budget > 0;) {
        const auto last = std::find_if(first, prefilling.end(), [&](const Generation * g) { return g->request.priority != (*first)->request.priority; });
        const auto equals = last - first;
        std::rotate(first, first + static_cast<std::ptrdiff_t>(turn_ % static_cast<uint64_t>(equals)), last);
        std::stable_sort(first, last, [](const Generation * a, const Generation * b) { return a->feed.size() - a->position < b->feed.size() - b->position; });
        for (; first != last; ++first) {
            const auto waiting = static_cast<int32_t>(last - first);
            budget -= feed(**first, (budget + waiting - 1) / waiting);
        }
    }
    turn_++;
}

/// Adds at most `n` tokens of what it has to feed to the batch; returns how many.
int32_t Context::feed(Generation & g, int32_t n) {
    size_t end = g.feed.size();
    // The state is remembered where others part, and before the last token, where the next prompt may.
    if (cache_->needs_checkpoints()) {
        end = g.position < end - g.wants_token() ? end - g.wants_token() : end;
        end = g.position < g.checkpoint_at ? std::min(end, g.checkpoint_at) : end;
    }
    end = g.position < g.rejoin_at ? std::min(end, g.rejoin_at) : end;
    end = std::min(end, g.position + static_cast<size_t>(std::max(n, 0)));
    for (size_t i = g.position; i < end; ++i) {
        const bool logits = g.wants_token() && i + 1 == g.feed.size();
        const int32_t row = batch_.add(g.feed[i], static_cast<llama_pos>(i), g.session->sequence, logits);
        g.row = logits ? row : g.row;
    }
    g.batch_tokens = static_cast<uint32_t>(end - g.position);
    return static_cast<int32_t>(g.batch_tokens);
}

bool Context::abort_requested() const {
    bool any = false;
    for (const GenerationPtr & g : active_) {
        if (g->batch_tokens > 0) {
            if (!g->cancelled.load(std::memory_order_relaxed)) {
                return false; // an abort would discard this sequence's work too
            }
            any = true;
        }
    }
    return any;
}

int32_t Context::decode() {
    const bool decode_only = std::none_of(active_.begin(), active_.end(), [](const GenerationPtr & g) {
        return g->state == Generation::State::prefill && g->batch_tokens > 0;
    });
    const int32_t threads = decode_only ? governor_.threads() : options_.threads;
    try {
        const ThreadBudget::Turn turn;
        if (turn.generation() != pool_generation_) {
            pool_generation_ = turn.generation();
            llama_attach_threadpool(ctx_.get(), turn.pool(), turn.pool());
        }
        if (threads != threads_set_) {
            threads_set_ = threads;
            llama_set_n_threads(ctx_.get(), threads, threads);
        }
        for (;;) {
            const int32_t status = llama_decode(ctx_.get(), batch_.get());
            if (status == 0) {
                llama_synchronize(ctx_.get());
            }
            // No cells, though there should be: windowed layers have fewer.
            if (status != 1 || !cache_->give_way()) {
                return status == 1 && running() <= 1 ? no_cells : status;
            }
        }
    } catch (const std::exception & e) {
        // Vulkan reports a lost device, or memory that ran out in the middle, this way. What the context holds is
        // unknown from here on.
        poisoned_ = true;
        const std::string why = e.what(); // as Vulkan spells its results
        out_of_memory_ = why.find("OutOfDeviceMemory") != std::string::npos || why.find("OutOfHostMemory") != std::string::npos;
        log_line(LogLevel::error, "decode failed: " + why);
        return -100;
    }
}

// ---- after the decode -----------------------------------------------------------------------------------------------

void Context::after_decode(Clock::duration took) {
    const Clock::time_point now = Clock::now();
    last_step_ = took;
    uint64_t sequences = 0, prefilled = 0, decoded = 0;
    for (const GenerationPtr & g : active_) {
        if (g->batch_tokens == 0) {
            continue;
        }
        sequences++;
        Session & session = *g->session;
        if (g->state == Generation::State::prefill) {
            prefilled += g->batch_tokens;
            cache_->append(session, PrefixTree::Tokens(g->feed).subspan(g->position, g->batch_tokens));
            g->position += g->batch_tokens;
            if (g->position == g->checkpoint_at || g->position + g->wants_token() == g->feed.size()) {
                cache_->checkpoint(session);
            }
        } else {
            decoded += g->batch_tokens;
            cache_->append(session, {&g->next, 1});
        }
        session.n_tokens = static_cast<uint32_t>(session.tokens.size());
    }
    if (prefilled >= static_cast<uint64_t>(smallest_chunk) && decoded == 0) {
        const double rate = static_cast<double>(prefilled) / std::max(milliseconds(took), 0.001);
        prefill_tokens_per_ms_ = prefill_tokens_per_ms_ == 0.0 ? rate : 0.5 * (prefill_tokens_per_ms_ + rate);
    }
    {
        std::lock_guard lock(mutex_);
        stats_.steps++;
        stats_.shared_steps += sequences > 1;
        stats_.max_sequences_in_step = std::max(stats_.max_sequences_in_step, sequences);
        stats_.prefill_tokens += prefilled;
        stats_.decode_tokens += decoded;
        stats_.narrow_steps += prefilled == 0 && governor_.narrow();
        stats_.last_batch = prefilled + decoded;
    }
    for (const GenerationPtr & g : active_) {
        if (g->batch_tokens > 0 && g->state == Generation::State::prefill) {
            report_progress(*g);
            if (g->position == g->rejoin_at) {
                g->state = Generation::State::queued; // schedule() comes before the next batch
                g->session->working = false;
            }
            if (g->position == g->feed.size() && !g->wants_token()) {
                fed(*g);
            }
        }
    }
    if (prefilled == 0) {
        governor_.record(took, static_cast<int32_t>(sequences), now);
    }
    for (const GenerationPtr & g : active_) {
        if (g->row < 0) {
            continue;
        }
        try {
            take_token(*g, now);
        } catch (const std::exception & e) {
            const bool grammar = !g->request.sampling.grammar.empty();
            fail(*g, Error{grammar ? ErrorCode::grammar_invalid : ErrorCode::internal, std::string("sampling failed: ") + e.what()});
        }
    }
}

void Context::report_progress(Generation & g) {
    Event progress{.kind = Event::Kind::progress};
    progress.done = static_cast<uint32_t>(std::min(g.position, g.prompt.size()));
    progress.total = g.usage.prompt;
    progress.cached = g.usage.cached;
    // Those who prefill beside it get their share of the rate.
    const auto beside = std::ranges::count_if(active_, [](const GenerationPtr & other) { return other->state == Generation::State::prefill; });
    if (prefill_tokens_per_ms_ > 0.0) {
        progress.remaining_ms = static_cast<double>(g.feed.size() - g.position) / prefill_tokens_per_ms_ * static_cast<double>(std::max<std::ptrdiff_t>(1, beside));
    }
    g.ring.push(std::move(progress));
    woke_ = true;
}

/// Everything that it had to feed is in cells, and no token is wanted: it goes on where it was interrupted, or was after the
/// cells alone.
void Context::fed(Generation & g) {
    if (g.work == Work::capture) {
        capture_now(g);
        return;
    }
    g.state = Generation::State::decode;
}

/// Why no token could be chosen of the row, biases added; none where a grammar alone forbids all that there are.
std::optional<Error> Context::no_token_error(const Generation & g) const {
    const float * logits = llama_get_logits_ith(ctx_.get(), g.row);
    const int32_t n = llama_vocab_n_tokens(model_->vocab());
    const bool numbers = logits && std::none_of(logits, logits + n, [](float logit) { return std::isnan(logit); });
    const bool any = numbers && std::any_of(logits, logits + n, [](float logit) { return std::isfinite(logit); });
    if (any && !g.request.sampling.grammar.empty()) {
        return std::nullopt;
    }
    if (numbers && !g.request.sampling.logit_bias.empty()) {
        return Error{ErrorCode::invalid_arg, "no token can be chosen: logitBias forbids every token; allow one", {{"argument", std::string("logitBias")}}};
    }
    return Error{ErrorCode::model_invalid, "no token can be chosen: the model's logits are not numbers. Weights or sizes in its file are damaged (verify() of ternion/gguf finds "
                                           "weights that are no numbers), or the device computes wrongly"};
}

void Context::take_token(Generation & g, Clock::time_point now) {
    if (g.state == Generation::State::prefill) {
        g.state = Generation::State::decode;
        g.first_token = now;
        g.usage.prefill_ms = milliseconds(now - g.prefill_start);
        g.usage.first_token_ms = milliseconds(now - g.asked);
    }
    if (g.request.max_tokens == 0) {
        finish(g, FinishReason::length);
        return;
    }
    TokenLogprobs logprobs;
    const llama_token token = g.sampler->sample(ctx_.get(), g.row, g.request.n_logprobs, logprobs);
    g.usage.decode_ms = milliseconds(now - g.first_token);
    if (auto error = token == LLAMA_TOKEN_NULL ? no_token_error(g) : std::nullopt) {
        fail(g, std::move(*error));
        return;
    }
    if (token == LLAMA_TOKEN_NULL || llama_vocab_is_eog(model_->vocab(), token)) {
        finish(g, FinishReason::stop);
        return;
    }
    g.sampler->accept(token, true);
    g.next = token;
    g.answer.push_back(token);
    g.answer_text += model_->piece(token, true);
    g.usage.generated++;

    const bool preserved = std::find(g.preserved.begin(), g.preserved.end(), token) != g.preserved.end();
    const bool stopped = g.pipeline->push(model_->piece(token, preserved));
    g.usage.reasoning += g.pipeline->thinking();
    if (g.request.n_logprobs > 0) {
        LogprobEntry entry{.logprobs = std::move(logprobs), .chosen_text = to_utf8(model_->piece(token, true)), .top_text = {}};
        for (const TokenLogprob & top : entry.logprobs.top) {
            entry.top_text.push_back(to_utf8(model_->piece(top.token, true)));
        }
        g.pipeline->push_logprobs(std::move(entry));
    }
    if (stopped) {
        finish(g, FinishReason::stop);
    } else if (g.request.max_tokens > 0 && g.usage.generated >= static_cast<uint32_t>(g.request.max_tokens)) {
        finish(g, FinishReason::length);
    } else if (g.session->tokens.size() >= context_) {
        finish(g, FinishReason::length);
    } else if (g.pipeline->due(now, last_step_) && g.pipeline->flush(g.ring, now, false)) {
        woke_ = true;
    }
}

// Upstream removed the cells of the ubatch it was aborted in; earlier ones of the same call, and recurrent state,
// may be there. Everything of the call goes.
void Context::undo_batch() {
    for (const GenerationPtr & g : active_) {
        if (g->batch_tokens > 0) {
            cache_->repair(*g->session);
            g->session->n_tokens = static_cast<uint32_t>(g->session->tokens.size());
        }
    }
}

void Context::fail_batch(int32_t status) {
    if (!poisoned_) {
        undo_batch();
    }
    for (const GenerationPtr & g : active_) {
        if (poisoned_) {
            fail(*g, out_of_memory_ ? Error{ErrorCode::out_of_memory, "the device had no memory left for a step; dispose the model and load it with a shorter context, fewer sequences or a smaller ubatch"}
                                    : Error{ErrorCode::device_lost, "the device failed during a decode; load the model again"});
        } else if (g->batch_tokens > 0) {
            fail(*g, status == no_cells ? no_room_error() : Error{ErrorCode::internal, "llama_decode returned " + std::to_string(status)});
        }
    }
}

} // namespace ternion
