#include "sampler.h"

#include "log.h"
#include "text.h"

#include "reasoning-budget.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace ternion {
namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();
constexpr size_t largest_grammar = 1 << 20; // bytes

/// Upstream's reasons quote the grammar from the place on to its end.
Error bad_grammar(const std::string & why) {
    constexpr size_t enough = 300;
    return Error{ErrorCode::grammar_invalid, "the grammar is not valid GBNF, or too large: " + (why.size() > enough ? to_utf8(std::string_view(why).substr(0, enough)) + "…" : why)};
}

std::vector<llama_token> tokenize_tag(const llama_vocab * vocab, const std::string & text) {
    std::vector<llama_token> tokens(text.size() + 2);
    const int32_t n = llama_tokenize(vocab, text.data(), static_cast<int32_t>(text.size()), tokens.data(),
                                     static_cast<int32_t>(tokens.size()), false, true);
    tokens.resize(n > 0 ? static_cast<size_t>(n) : 0);
    return tokens;
}

TokenLogprobs log_softmax(const float * logits, int32_t n_vocab, int32_t n_top) {
    TokenLogprobs out;
    const float largest = logits[argmax(logits, n_vocab)];
    double sum = 0.0;
    for (int32_t i = 0; i < n_vocab; ++i) {
        sum += std::exp(static_cast<double>(logits[i]) - largest);
    }
    const float log_sum = largest + static_cast<float>(std::log(sum));
    std::vector<llama_token> order(static_cast<size_t>(n_vocab));
    for (int32_t i = 0; i < n_vocab; ++i) {
        order[static_cast<size_t>(i)] = i;
    }
    const auto n = std::min<size_t>(static_cast<size_t>(n_top), order.size());
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n), order.end(), [&](llama_token a, llama_token b) {
        return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
    });
    for (size_t i = 0; i < n; ++i) {
        out.top.push_back({order[i], logits[order[i]] - log_sum});
    }
    out.chosen.logprob = log_sum; // the caller subtracts once it knows the token
    return out;
}

} // namespace

int32_t argmax(const float * logits, int32_t n) {
    // Sixteen running maxima: the compiler turns the inner loop into one vector max per 16 logits, and only a block
    // that raises the maximum is looked into.
    constexpr int32_t block = 256;
    float best = minus_infinity;
    int32_t where = 0;
    for (int32_t start = 0; start < n; start += block) {
        const int32_t end = std::min(start + block, n);
        float lane[16];
        std::fill(std::begin(lane), std::end(lane), minus_infinity);
        int32_t i = start;
        for (; i + 16 <= end; i += 16) {
            for (int32_t j = 0; j < 16; ++j) {
                lane[j] = logits[i + j] > lane[j] ? logits[i + j] : lane[j];
            }
        }
        float high = *std::max_element(std::begin(lane), std::end(lane));
        for (; i < end; ++i) {
            high = logits[i] > high ? logits[i] : high;
        }
        if (high > best) {
            best = high;
            where = static_cast<int32_t>(std::find(logits + start, logits + end, high) - logits);
        }
    }
    return where;
}

Result<std::unique_ptr<Sampler>> Sampler::create(const llama_model * model, const SamplingParams & params,
                                                 const ReasoningBudget & budget) {
    const llama_vocab * vocab = llama_model_get_vocab(model);
    std::unique_ptr<Sampler> self(new Sampler);
    self->n_vocab_ = llama_vocab_n_tokens(vocab);
    self->bias_ = params.logit_bias;
    for (const llama_logit_bias & bias : self->bias_) {
        if (bias.token < 0 || bias.token >= self->n_vocab_) {
            return Error{ErrorCode::invalid_arg,
                         "logitBias names token " + std::to_string(bias.token) + ", but the vocabulary has tokens 0 to " +
                             std::to_string(self->n_vocab_ - 1),
                         {{"token", static_cast<double>(bias.token)}}};
        }
    }
    int32_t n_suppressed = 0;
    const llama_token * suppressed = llama_vocab_get_suppress_tokens(vocab, &n_suppressed);
    for (int32_t i = 0; i < n_suppressed; ++i) {
        self->bias_.push_back({suppressed[i], minus_infinity});
    }
    if (params.ignore_eos) {
        for (llama_token token = 0; token < self->n_vocab_; ++token) {
            if (llama_vocab_is_eog(vocab, token)) {
                self->bias_.push_back({token, minus_infinity});
            }
        }
    }

    LogCapture capture;
    try {
        if (!params.grammar.empty()) {
            if (params.grammar.size() > largest_grammar || params.grammar.find('\0') != std::string::npos) {
                return Error{ErrorCode::grammar_invalid, "the grammar is a text of " + std::to_string(params.grammar.size()) +
                                                             " bytes; expected at most " + std::to_string(largest_grammar) + ", none of them 0"};
            }
            self->grammar_.reset(llama_sampler_init_grammar(vocab, params.grammar.c_str(), "root"));
            if (!self->grammar_) {
                return bad_grammar(capture.text("it has no rule named root"));
            }
        }
        if (budget.tokens >= 0 && !budget.start_tag.empty() && !budget.end_tag.empty()) {
            const std::vector<llama_token> end = tokenize_tag(vocab, budget.end_tag);
            self->budget_.reset(common_reasoning_budget_init(vocab, {tokenize_tag(vocab, budget.start_tag)}, {end}, end, budget.tokens));
            for (const llama_token token : tokenize_tag(vocab, budget.generation_prompt)) {
                llama_sampler_accept(self->budget_.get(), token);
            }
        }
        if (!self->build_chain(vocab, params, llama_model_n_ctx_train(model))) {
            return Error{ErrorCode::internal, "the sampler chain could not be built"};
        }
    } catch (const std::exception & e) {
        return self->grammar_ || params.grammar.empty() ? Error{ErrorCode::internal, e.what()} : bad_grammar(e.what());
    }
    return self;
}

bool Sampler::build_chain(const llama_vocab * vocab, const SamplingParams & p, int32_t n_ctx_train) {
    llama_sampler_chain_params chain_params = llama_sampler_chain_default_params();
    chain_params.no_perf = true;
    chain_.reset(llama_sampler_chain_init(chain_params));
    if (!chain_) {
        return false;
    }
    const auto add = [&](llama_sampler * sampler) { llama_sampler_chain_add(chain_.get(), sampler); };

    if (p.mirostat != 0) { // mirostat replaces the chain and chooses by itself, as in llama.cpp's common
        add(llama_sampler_init_temp(p.temperature));
        add(p.mirostat == 1 ? llama_sampler_init_mirostat(n_vocab_, p.seed, p.mirostat_tau, p.mirostat_eta, 100)
                            : llama_sampler_init_mirostat_v2(p.seed, p.mirostat_tau, p.mirostat_eta));
        return true;
    }

    // Samplers that are off, and when greedy those that never remove the most likely token, are left out.
    const bool greedy = p.temperature <= 0.0f;
    for (const std::string & name : p.order) {
        const bool first = llama_sampler_chain_n(chain_.get()) == 0;
        if (name == "penalties") {
            if (p.penalty_last_n != 0 && (p.repeat_penalty != 1.0f || p.frequency_penalty != 0.0f || p.presence_penalty != 0.0f)) {
                add(llama_sampler_init_penalties(n_vocab_, p.penalty_last_n < 0 ? n_ctx_train : p.penalty_last_n, p.repeat_penalty,
                                                 p.frequency_penalty, p.presence_penalty));
            }
        } else if (name == "dry") {
            if (p.dry_multiplier != 0.0f && p.dry_base >= 1.0f && p.dry_penalty_last_n != 0) {
                std::vector<const char *> breakers;
                for (const std::string & text : p.dry_sequence_breakers) {
                    breakers.push_back(text.c_str());
                }
                add(llama_sampler_init_dry(vocab, p.dry_multiplier, p.dry_base, p.dry_allowed_length,
                                           p.dry_penalty_last_n < 0 ? n_ctx_train : p.dry_penalty_last_n, breakers.data(),
                                           breakers.size()));
            }
        } else if (name == "typicalP") {
            if (p.typical_p < 1.0f) {
                add(llama_sampler_init_typical(p.typical_p, 1));
            }
        } else if (name == "xtc") {
            if (p.xtc_probability > 0.0f && p.xtc_threshold <= 0.5f) {
                add(llama_sampler_init_xtc(p.xtc_probability, p.xtc_threshold, 1, p.seed));
            }
        } else if (greedy) {
            continue;
        } else if (name == "topNSigma") {
            if (p.top_n_sigma > 0.0f) {
                add(llama_sampler_init_top_n_sigma(p.top_n_sigma));
            }
        } else if (name == "topK") {
            if (p.top_k > 0 && p.top_k < n_vocab_) {
                preselect_k_ = first ? p.top_k : 0;
                add(llama_sampler_init_top_k(p.top_k));
            }
        } else if (name == "topP") {
            if (p.top_p < 1.0f) {
                add(llama_sampler_init_top_p(p.top_p, 1));
            }
        } else if (name == "minP") {
            if (p.min_p > 0.0f) {
                add(llama_sampler_init_min_p(p.min_p, 1));
            }
        } else if (name == "temperature") {
            add(llama_sampler_init_temp(p.temperature));
        }
    }
    greedy_ = greedy && llama_sampler_chain_n(chain_.get()) == 0;
    add(greedy ? llama_sampler_init_greedy() : llama_sampler_init_dist(p.seed));
    return true;
}

void Sampler::fill_all(const float * logits) {
    candidates_.resize(static_cast<size_t>(n_vocab_));
    for (int32_t i = 0; i < n_vocab_; ++i) {
        candidates_[static_cast<size_t>(i)] = {i, logits[i], 0.0f};
    }
    array_ = {candidates_.data(), candidates_.size(), -1, false};
}

void Sampler::fill_top_k(const float * logits) {
    const auto worse = [](const llama_token_data & a, const llama_token_data & b) {
        return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
    };
    const size_t k = static_cast<size_t>(preselect_k_);
    candidates_.clear();
    candidates_.reserve(k + 1);
    float bar = minus_infinity; // the worst of the k best so far; most blocks hold nothing above it
    constexpr int32_t block = 16;
    for (int32_t start = 0; start < n_vocab_; start += block) {
        const int32_t end = std::min(start + block, n_vocab_);
        if (candidates_.size() == k) {
            float high = minus_infinity;
            for (int32_t i = start; i < end; ++i) {
                high = logits[i] > high ? logits[i] : high;
            }
            if (!(high > bar)) {
                continue;
            }
        }
        for (int32_t i = start; i < end; ++i) {
            if (candidates_.size() < k) {
                candidates_.push_back({i, logits[i], 0.0f});
                std::push_heap(candidates_.begin(), candidates_.end(), worse);
                bar = candidates_.front().logit;
            } else if (logits[i] > bar) {
                std::pop_heap(candidates_.begin(), candidates_.end(), worse);
                candidates_.back() = {i, logits[i], 0.0f};
                std::push_heap(candidates_.begin(), candidates_.end(), worse);
                bar = candidates_.front().logit;
            }
        }
    }
    std::sort(candidates_.begin(), candidates_.end(), worse);
    array_ = {candidates_.data(), candidates_.size(), -1, true};
}

bool Sampler::grammar_allows(llama_token token) {
    llama_token_data single = {token, 1.0f, 0.0f};
    llama_token_data_array array = {&single, 1, -1, false};
    llama_sampler_apply(grammar_.get(), &array);
    return single.logit != minus_infinity;
}

llama_token Sampler::pick(float * logits) {
    if (greedy_) {
        const int32_t best = argmax(logits, n_vocab_);
        return logits[best] > minus_infinity ? best : LLAMA_TOKEN_NULL; // false for NaN, too
    }
    if (preselect_k_ > 0) {
        fill_top_k(logits);
    } else {
        fill_all(logits);
    }
    if (std::all_of(candidates_.begin(), candidates_.end(), [](const auto & c) { return !(c.logit > minus_infinity); })) {
        return LLAMA_TOKEN_NULL;
    }
    llama_sampler_apply(chain_.get(), &array_);
    return array_.selected < 0 ? LLAMA_TOKEN_NULL : array_.data[array_.selected].id;
}

llama_token Sampler::pick_constrained(float * logits) {
    fill_all(logits);
    if (budget_) {
        llama_sampler_apply(budget_.get(), &array_);
    }
    if (grammar_) {
        llama_sampler_apply(grammar_.get(), &array_);
    }
    if (std::all_of(candidates_.begin(), candidates_.end(), [](const auto & c) { return !(c.logit > minus_infinity); })) {
        return LLAMA_TOKEN_NULL;
    }
    llama_sampler_apply(chain_.get(), &array_);
    return array_.selected < 0 ? LLAMA_TOKEN_NULL : array_.data[array_.selected].id;
}

llama_token Sampler::sample(llama_context * ctx, int32_t row, int32_t n_logprobs, TokenLogprobs & logprobs) {
    float * logits = llama_get_logits_ith(ctx, row);
    if (!logits) {
        return LLAMA_TOKEN_NULL;
    }
    std::vector<float> before; // the chosen token's logit before biases, only when somebody asked
    if (n_logprobs > 0) {
        logprobs = log_softmax(logits, n_vocab_, n_logprobs);
        before.assign(logits, logits + n_vocab_);
    }
    for (const llama_logit_bias & bias : bias_) {
        logits[bias.token] += bias.bias;
    }
    llama_token token = LLAMA_TOKEN_NULL;
    const bool forced = budget_ && common_reasoning_budget_get_state(budget_.get()) == REASONING_BUDGET_FORCING;
    if (!forced) {
        token = pick(logits);
    }
    if (forced || (grammar_ && (token == LLAMA_TOKEN_NULL || !grammar_allows(token)))) {
        token = pick_constrained(logits);
    }
    if (n_logprobs > 0 && token != LLAMA_TOKEN_NULL) {
        logprobs.chosen = {token, before[static_cast<size_t>(token)] - logprobs.chosen.logprob};
    }
    return token;
}

void Sampler::accept(llama_token token, bool generated) {
    if (generated && budget_) {
        llama_sampler_accept(budget_.get(), token);
    }
    if (generated && grammar_) {
        llama_sampler_accept(grammar_.get(), token);
    }
    if (!greedy_) {
        llama_sampler_accept(chain_.get(), token);
    }
}

} // namespace ternion
