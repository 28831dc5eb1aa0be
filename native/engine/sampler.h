// From logits to a token.
#pragma once

#include "error.h"

#include "llama.h"

#include <memory>
#include <string>
#include <vector>

namespace ternion {

/// All sampling choices of a request. Values that switch a sampler off: see each line. No defaults here that a user
/// would notice: lib/sampling.ts chooses.
struct SamplingParams {
    float temperature = 0.0f;       // <= 0: greedy
    int32_t top_k = 0;              // <= 0: off
    float top_p = 1.0f;             // >= 1: off
    float min_p = 0.0f;             // <= 0: off
    float typical_p = 1.0f;         // >= 1: off
    float top_n_sigma = -1.0f;      // <= 0: off
    float repeat_penalty = 1.0f;    // 1: off
    float frequency_penalty = 0.0f; // 0: off
    float presence_penalty = 0.0f;  // 0: off
    int32_t penalty_last_n = 64;    // 0: off
    float dry_multiplier = 0.0f;    // 0: off
    float dry_base = 1.75f;
    int32_t dry_allowed_length = 2;
    int32_t dry_penalty_last_n = -1; // tokens; negative: the whole context
    std::vector<std::string> dry_sequence_breakers;
    float xtc_probability = 0.0f; // 0: off
    float xtc_threshold = 0.1f;
    int32_t mirostat = 0; // 0: off
    float mirostat_tau = 5.0f;
    float mirostat_eta = 0.1f;
    uint32_t seed = 0;
    std::vector<llama_logit_bias> logit_bias;
    std::vector<std::string> order; // names as in lib/sampling.ts
    std::string grammar;            // GBNF, empty: none
    bool ignore_eos = false;
};

/// The thinking block's tags and how many tokens may stand inside.
struct ReasoningBudget {
    int32_t tokens = -1; // negative: no limit, nothing is built
    std::string start_tag;
    std::string end_tag;
    std::string generation_prompt; // what the template already put after the user's turn; may open the block
};

struct TokenLogprob {
    llama_token token = -1;
    float logprob = 0.0f;
};

/// A chosen token with the model's own distribution around it (before any sampler changed it).
struct TokenLogprobs {
    TokenLogprob chosen;
    std::vector<TokenLogprob> top; // most likely first
};

/// Chooses tokens for one request. Used by the engine thread alone.
///
/// Three paths, by what the request needs: greedy reads the logits once and keeps no candidates; a chain that starts
/// with top-k sees only the k best, found in one pass; everything else sees the whole vocabulary. A grammar is checked
/// against the chosen token first and applied to the whole vocabulary only if that token does not fit, as llama.cpp's
/// common sampler does it.
class Sampler {
  public:
    static Result<std::unique_ptr<Sampler>> create(const llama_model * model, const SamplingParams & params,
                                                   const ReasoningBudget & budget);

    /// The next token from row `row` of the last decode (as counted by llama_get_logits_ith), or LLAMA_TOKEN_NULL when
    /// the constraints leave none. Changes that row's logits. Throws what libllama throws.
    llama_token sample(llama_context * ctx, int32_t row, int32_t n_logprobs, TokenLogprobs & logprobs);

    /// Tells the samplers that have memory. Prompt tokens feed the penalties, generated ones the grammar too.
    void accept(llama_token token, bool generated);

  private:
    struct Free {
        void operator()(llama_sampler * sampler) const { llama_sampler_free(sampler); }
    };
    using Handle = std::unique_ptr<llama_sampler, Free>;

    Sampler() = default;
    bool build_chain(const llama_vocab * vocab, const SamplingParams & params, int32_t n_ctx_train);
    llama_token pick(float * logits);
    llama_token pick_constrained(float * logits);
    bool grammar_allows(llama_token token);
    void fill_all(const float * logits);
    void fill_top_k(const float * logits);

    int32_t n_vocab_ = 0;
    bool greedy_ = false;     // no sampler needs candidates
    int32_t preselect_k_ = 0; // > 0: the chain starts with top-k
    std::vector<llama_logit_bias> bias_;
    Handle chain_;
    Handle grammar_;
    Handle budget_;
    std::vector<llama_token_data> candidates_;
    llama_token_data_array array_ = {};
};

/// Index of the largest of `n` > 0 logits, the first of equals. NaN never wins.
int32_t argmax(const float * logits, int32_t n);

} // namespace ternion
