// One step of the engine: admit, batch, decode, take tokens. Engine thread.
#include "context.h"

#include "log.h"

#include <algorithm>
#include <set>

namespace ternion {
namespace {

// While others decode, a prefill chunk may hold them up for about this long.
constexpr double shared_prefill_ms = 40.0;
constexpr int32_t smallest_chunk = 32;

} // namespace

void Context::step() {
    for (const GenerationPtr & generation : active_) {
        if (generation->state == Generation::State::queued && !admit(*generation)) {
            break; // first come, first served
        }
    }
    fill_batch();
    if (batch_.empty()) {
        return;
    }
    const Clock::time_point start = Clock::now();
    const int32_t status = decode();
    const Clock::duration took = Clock::now() - start;
    if (status == 0) {
        after_decode(took);
    } else if (status == 2) {
        undo_batch(); // every request in it was cancelled; they are retired at the next round
    } else {
        fail_batch("llama_decode returned " + std::to_string(status));
    }
}

// ---- sequences ------------------------------------------------------------------------------------------------------

void Context::evict(Session & session) {
    llama_memory_seq_rm(llama_get_memory(ctx_.get()), session.sequence, -1, -1);
    resident_sessions_[static_cast<size_t>(session.sequence)] = nullptr;
    resident_--;
    session.sequence = -1;
    session.cached.clear();
}

llama_seq_id Context::claim_sequence() {
    Session * oldest = nullptr;
    for (size_t i = 0; i < resident_sessions_.size(); ++i) {
        Session * session = resident_sessions_[i].get();
        if (!session) {
            return static_cast<llama_seq_id>(i);
        }
        const bool working = std::any_of(active_.begin(), active_.end(), [&](const GenerationPtr & g) {
            return g->session.get() == session && (g->state == Generation::State::prefill || g->state == Generation::State::decode);
        });
        if (!working && (!oldest || session->last_used < oldest->last_used)) {
            oldest = session;
        }
    }
    if (!oldest) {
        return -1;
    }
    const llama_seq_id sequence = oldest->sequence;
    evict(*oldest);
    return sequence;
}

// Drops the cells behind the first `keep`; returns how many really stay. Recurrent state cannot be rolled back, and
// a sliding window has forgotten what lies before it: then nothing stays.
size_t Context::rewind(Session & session, size_t keep) {
    if (keep == session.cached.size()) {
        return keep;
    }
    llama_memory_t memory = llama_get_memory(ctx_.get());
    const llama_pos window = llama_model_n_swa(model_->handle());
    const bool forgotten = window > 0 && keep > 0 &&
                           llama_memory_seq_pos_min(memory, session.sequence) > std::max<llama_pos>(0, static_cast<llama_pos>(keep) - window);
    if (keep == 0 || forgotten || !llama_memory_seq_rm(memory, session.sequence, static_cast<llama_pos>(keep), -1)) {
        llama_memory_seq_rm(memory, session.sequence, -1, -1);
        keep = 0;
    }
    session.cached.resize(keep);
    return keep;
}

bool Context::admit(Generation & generation) {
    Session & session = *generation.session;
    if (session.sequence < 0) {
        const llama_seq_id sequence = claim_sequence();
        if (sequence < 0) {
            return false;
        }
        session.sequence = sequence;
        resident_sessions_[static_cast<size_t>(sequence)] = generation.session;
        resident_++;
    }
    const auto differ = std::mismatch(session.cached.begin(), session.cached.end(), generation.prompt.begin(), generation.prompt.end());
    size_t keep = static_cast<size_t>(differ.first - session.cached.begin());
    keep = std::min(keep, generation.prompt.size() - 1); // the last token's logits are needed
    keep = rewind(session, keep);
    generation.position = keep;
    generation.usage.prompt = static_cast<uint32_t>(generation.prompt.size());
    generation.usage.cached = static_cast<uint32_t>(keep);
    generation.state = Generation::State::prefill;
    generation.prefill_start = Clock::now();
    return true;
}

// ---- batch ----------------------------------------------------------------------------------------------------------

void Context::fill_batch() {
    batch_.clear();
    bool decoding = false;
    for (const GenerationPtr & g : active_) {
        g->row = -1;
        g->batch_tokens = 0;
        // A full ring parks its sequence: JavaScript has not taken what there is.
        if (g->state == Generation::State::decode && !g->cancelled && !g->ring.full()) {
            decoding = true;
            g->row = batch_.add(g->next, static_cast<llama_pos>(g->session->cached.size()), g->session->sequence, true);
            g->batch_tokens = 1;
        }
    }
    int32_t budget = batch_.room();
    if (decoding) {
        const double chunk = prefill_tokens_per_ms_ > 0.0 ? prefill_tokens_per_ms_ * shared_prefill_ms : smallest_chunk;
        budget = std::min(budget, std::max(smallest_chunk, static_cast<int32_t>(chunk)));
    }
    for (const GenerationPtr & g : active_) {
        if (g->state != Generation::State::prefill || g->cancelled || budget <= 0) {
            continue;
        }
        const size_t left = g->prompt.size() - g->position;
        const size_t n = std::min(left, static_cast<size_t>(std::max(budget, 0)));
        for (size_t i = 0; i < n; ++i) {
            const bool last = i + 1 == left;
            const int32_t row = batch_.add(g->prompt[g->position + i], static_cast<llama_pos>(g->position + i), g->session->sequence, last);
            if (last) {
                g->row = row;
            }
        }
        g->batch_tokens = static_cast<uint32_t>(n);
        budget -= static_cast<int32_t>(n);
    }
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
            if (status != 1) {
                return status;
            }
            // No free cells. Idle sessions give theirs up, the one that was used longest ago first.
            Session * idle = nullptr;
            for (const auto & session : resident_sessions_) {
                const bool in_use = !session || std::any_of(active_.begin(), active_.end(), [&](const GenerationPtr & g) { return g->session == session; });
                if (!in_use && (!idle || session->last_used < idle->last_used)) {
                    idle = session.get();
                }
            }
            if (!idle) {
                return status;
            }
            evict(*idle);
        }
    } catch (const std::exception & e) {
        // Vulkan reports a lost device, or memory that ran out in the middle, this way. What the context holds is
        // unknown from here on.
        poisoned_ = true;
        log_line(LogLevel::error, std::string("decode failed: ") + e.what());
        return -100;
    }
}

// ---- after the decode -----------------------------------------------------------------------------------------------

void Context::after_decode(Clock::duration took) {
    const Clock::time_point now = Clock::now();
    step_number_++;
    last_step_ = took;
    uint64_t sequences = 0, prefilled = 0, decoded = 0;
    for (const GenerationPtr & g : active_) {
        if (g->batch_tokens == 0) {
            continue;
        }
        sequences++;
        Session & session = *g->session;
        session.last_used = step_number_;
        if (g->state == Generation::State::prefill) {
            prefilled += g->batch_tokens;
            session.cached.insert(session.cached.end(), g->prompt.begin() + static_cast<std::ptrdiff_t>(g->position),
                                  g->prompt.begin() + static_cast<std::ptrdiff_t>(g->position + g->batch_tokens));
            g->position += g->batch_tokens;
            Event progress{.kind = Event::Kind::progress};
            progress.done = static_cast<uint32_t>(g->position);
            progress.total = g->usage.prompt;
            progress.cached = g->usage.cached;
            g->ring.push(std::move(progress));
            woke_ = true;
        } else {
            decoded += g->batch_tokens;
            session.cached.push_back(g->next);
        }
        session.n_tokens = static_cast<uint32_t>(session.cached.size());
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
            fail(*g, Error{ErrorCode::internal, std::string("sampling failed: ") + e.what()});
        }
    }
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
    if (token == LLAMA_TOKEN_NULL && g.request.sampling.grammar.empty()) {
        fail(g, Error{ErrorCode::internal, "no token can be chosen: the model's logits are not numbers, or logitBias forbids every token"});
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
    } else if (g.session->cached.size() >= context_) {
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
            Session & session = *g->session;
            const size_t before = session.cached.size();
            session.cached.push_back(-1); // so that rewind() sees something to remove
            rewind(session, before);
            session.n_tokens = static_cast<uint32_t>(session.cached.size());
        }
    }
}

void Context::fail_batch(const std::string & why) {
    if (!poisoned_) {
        undo_batch();
    }
    for (const GenerationPtr & g : active_) {
        if (poisoned_) {
            fail(*g, Error{ErrorCode::device_lost, "the device failed during a decode; load the model again"});
        } else if (g->batch_tokens > 0) {
            fail(*g, Error{ErrorCode::internal, why});
        }
    }
}

} // namespace ternion
