// What llama.cpp made of a file, looked at before anything is computed with it.
#include "gguf_check.h"

#include <../src/llama-model.h>

#include <algorithm>

namespace ternion {
namespace {

Error invalid(const std::string & path, const std::string & why) {
    return {ErrorCode::model_invalid, path + ": " + why + "; the file is damaged, or a broken program wrote it: get it again, or convert the model again", {{"path", path}}};
}

// ggml asserts it on its threads, where that ends the process.
Result<bool> check_rotation(const llama_model & model, const std::string & path) {
    const llama_hparams & sizes = model.hparams;
    if (sizes.rope_type == LLAMA_ROPE_TYPE_NONE) {
        return true;
    }
    constexpr uint32_t least = 2; // ggml's loop over the values beside those that turn does not end if none do
    for (uint32_t layer = 0; layer < sizes.n_layer_all; ++layer) {
        const uint32_t rotated = sizes.n_rot(layer), head = sizes.n_embd_head_k(layer);
        if (sizes.n_head(layer) > 0 && head > 0 && (rotated < least || rotated > head || rotated % 2 != 0)) {
            return invalid(path, "RoPE turns " + std::to_string(rotated) + " values of heads of " + std::to_string(head) + " (rope.dimension_count); expected an even number from " + std::to_string(least) + " to " +
                                     std::to_string(head));
        }
    }
    const bool sections = sizes.rope_type == LLAMA_ROPE_TYPE_MROPE || sizes.rope_type == LLAMA_ROPE_TYPE_IMROPE || sizes.rope_type == LLAMA_ROPE_TYPE_VISION;
    int64_t sum = 0;
    bool negative = false;
    for (const int section : sizes.rope_sections) {
        sum += section;
        negative = negative || section < 0;
    }
    const auto & first = sizes.rope_sections;
    const bool none = std::max({first[0], first[1], first[2]}) <= 0;
    if (negative || (sections && none) || sum > static_cast<int64_t>(sizes.n_embd_head_k_full)) {
        return invalid(path, "RoPE's sections are " + std::to_string(first[0]) + ", " + std::to_string(first[1]) + ", " + std::to_string(first[2]) + ", " + std::to_string(first[3]) +
                                 " (rope.dimension_sections); expected parts of a head of " + std::to_string(sizes.n_embd_head_k_full));
    }
    return true;
}

// llama.cpp asserts that what is to be added to a text is there.
Result<bool> check_added_tokens(const llama_vocab * vocab, const std::string & path) {
    const enum llama_vocab_type type = llama_vocab_type(vocab);
    const bool adds = type == LLAMA_VOCAB_TYPE_SPM || type == LLAMA_VOCAB_TYPE_BPE || type == LLAMA_VOCAB_TYPE_UGM;
    const auto missing = [&](const char * key, const char * wanted) {
        return invalid(path, std::string("the tokenizer is to begin or end texts with a token that it does not have (") + key + "); expected its id under " + wanted);
    };
    const bool pieces = type == LLAMA_VOCAB_TYPE_WPM;
    if (((adds && llama_vocab_get_add_bos(vocab)) || pieces) && llama_vocab_bos(vocab) == LLAMA_TOKEN_NULL) {
        return missing("tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id");
    }
    if (adds && llama_vocab_get_add_eos(vocab) && llama_vocab_eos(vocab) == LLAMA_TOKEN_NULL) {
        return missing("tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id");
    }
    if (pieces && llama_vocab_sep(vocab) == LLAMA_TOKEN_NULL) {
        return missing("tokenizer.ggml.add_sep_token", "tokenizer.ggml.seperator_token_id");
    }
    return true;
}

} // namespace

Result<bool> check_loaded_model(const llama_model * model, const std::string & path) {
    if (auto ok = check_added_tokens(llama_model_get_vocab(model), path); !ok) {
        return ok.error();
    }
    return model->hparams.vocab_only ? Result<bool>(true) : check_rotation(*model, path);
}

} // namespace ternion
