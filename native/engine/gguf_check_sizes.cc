// Sizes of a model, as its metadata gives them. What llama.cpp asserts or divides by, and no more: the rest it compares with the tensors.
#include "gguf_check.h"

#include "gguf.h"

#include <../src/llama-arch.h>
#include <../src/llama-hparams.h> // LLAMA_MAX_LAYERS, LLAMA_MAX_EXPERTS

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

namespace ternion {
namespace {

// Far above any model's, and low enough that a product of two is no overflow in 64 bits.
constexpr uint32_t largest_size = 1 << 24;

/// The metadata under the architecture's name. A value of another type than llama.cpp reads counts as absent: it says so itself.
class Sizes {
  public:
    Sizes(const RawGguf & header, const std::string & path)
        : header_(header), path_(path), architecture_(text_of(header.metadata, "general.architecture")), known_(llm_arch_from_string(architecture_)) {}

    llm_arch architecture() const { return known_; }
    std::string key(const char * name) const { return architecture_ + "." + name; }
    const RawEntry * entry(const char * name) const { return find_entry(header_.metadata, key(name)); }

    std::optional<uint32_t> number(const char * name) const { return scalar<uint32_t>(name, GGUF_TYPE_UINT32); }
    std::optional<float> real(const char * name) const { return scalar<float>(name, GGUF_TYPE_FLOAT32); }

    /// By layer; one value stands for all.
    std::vector<uint32_t> by_layer(const char * name, uint32_t layers) const {
        const RawEntry * found = entry(name);
        if (found && found->type == GGUF_TYPE_UINT32) {
            return std::vector<uint32_t>(layers, *number(name));
        }
        const uint64_t n = found ? array_length(header_.metadata, found->key) : 0;
        constexpr size_t before = sizeof(uint32_t) + sizeof(uint64_t); // item type, length
        if (n != layers || (found->value.size() - before) / n != sizeof(uint32_t)) {
            return {};
        }
        std::vector<uint32_t> values(n);
        std::memcpy(values.data(), found->value.data() + before, n * sizeof(uint32_t));
        return values;
    }

    Error bad(const char * name, const std::string & found, const std::string & expected) const { return bad_metadata(path_, key(name), found, expected); }

    Result<bool> within(const char * name, uint32_t least, uint32_t most) const {
        const auto value = number(name);
        if (value && (*value < least || *value > most)) {
            return bad(name, std::to_string(*value), std::to_string(least) + " to " + std::to_string(most));
        }
        return true;
    }

  private:
    template <typename T>
    std::optional<T> scalar(const char * name, gguf_type type) const {
        const RawEntry * found = entry(name);
        if (!found || found->type != type) {
            return std::nullopt;
        }
        T value;
        std::memcpy(&value, found->value.data(), sizeof(value));
        return value;
    }

    const RawGguf & header_;
    const std::string & path_;
    const std::string architecture_;
    const llm_arch known_;
};

struct Range {
    const char * name;
    uint32_t least, most;
};

// Where 0 is the least, some models mean "none" by it.
constexpr Range ranges[] = {
    {"block_count", 1, LLAMA_MAX_LAYERS},
    {"context_length", 0, INT32_MAX},
    {"embedding_length", 1, largest_size},
    {"embedding_length_out", 0, largest_size},
    {"features_length", 1, largest_size},
    {"expert_count", 0, LLAMA_MAX_EXPERTS},
    {"expert_feed_forward_length", 0, largest_size},
    {"expert_shared_feed_forward_length", 0, largest_size},
    {"experts_per_group", 1, LLAMA_MAX_EXPERTS},
    {"attention.key_length", 0, largest_size},
    {"attention.value_length", 0, largest_size},
    {"attention.key_length_swa", 0, largest_size},
    {"attention.value_length_swa", 0, largest_size},
    {"attention.key_length_mla", 0, largest_size},
    {"attention.value_length_mla", 0, largest_size},
    {"attention.output_group_count", 1, largest_size},
    {"attention.sliding_window", 0, INT32_MAX},
    {"full_attention_interval", 1, INT32_MAX},
    {"interleave_moe_layer_step", 0, INT32_MAX},
    {"conv_group_size", 1, largest_size},
    {"pooling_type", 0, LLAMA_POOLING_TYPE_RANK},
    {"vocab_size", 0, largest_size},
    {"ssm.conv_kernel", 1, 1 << 16},
    {"ssm.inner_size", 1, largest_size},
    {"ssm.state_size", 1, largest_size},
    {"ssm.time_step_rank", 1, largest_size},
    {"ssm.group_count", 0, largest_size},
    {"wkv.head_size", 1, largest_size},
    {"kda.head_dim", 1, largest_size},
    {"shortconv.l_cache", 1, 1 << 16},
    {"token_shift_count", 0, 1 << 16},
    {"convnext.block_count", 0, LLAMA_MAX_LAYERS},
    {"posnet.block_count", 0, LLAMA_MAX_LAYERS},
};

Result<bool> check_experts(const Sizes & sizes, uint32_t layers) {
    const uint32_t experts = sizes.number("expert_count").value_or(0);
    const std::vector<uint32_t> used = sizes.by_layer("expert_used_count", layers);
    const uint32_t most_used = used.empty() ? 0 : *std::max_element(used.begin(), used.end());
    if (experts <= 1 && (sizes.architecture() == LLM_ARCH_HUNYUAN_VL || sizes.architecture() == LLM_ARCH_HUNYUAN_DENSE)) {
        return true; // which say 1 and mean none
    }
    if (most_used > experts || (experts > 0 && most_used == 0 && (!used.empty() || !sizes.entry("expert_used_count")))) {
        return sizes.bad("expert_used_count", used.empty() ? "missing" : std::to_string(most_used),
                         experts > 0 ? "1 to " + std::to_string(experts) + ", which is expert_count" : "0, since expert_count is 0");
    }
    const uint32_t groups = sizes.number("expert_group_count").value_or(0);
    if (groups > 0 && groups >= std::max(experts, 1u)) {
        return sizes.bad("expert_group_count", std::to_string(groups), "less than expert_count, " + std::to_string(experts));
    }
    if (groups > 1) {
        if (experts % groups != 0) {
            return sizes.bad("expert_group_count", std::to_string(groups), "a divisor of expert_count, " + std::to_string(experts));
        }
        if (const uint32_t group_used = sizes.number("expert_group_used_count").value_or(0); group_used == 0 || group_used >= groups) {
            return sizes.bad("expert_group_used_count", std::to_string(group_used), "1 to " + std::to_string(groups - 1));
        }
    }
    return true;
}

Result<bool> check_heads(const Sizes & sizes, uint32_t layers) {
    const std::vector<uint32_t> heads = sizes.by_layer("attention.head_count", layers);
    const std::vector<uint32_t> kv_heads = sizes.by_layer("attention.head_count_kv", layers);
    const llm_arch architecture = sizes.architecture();
    const bool without = llm_arch_is_recurrent(architecture) || llm_arch_is_hybrid(architecture) || architecture == LLM_ARCH_WAVTOKENIZER_DEC;
    // Sizes of heads are divided by the first layer's count.
    if (!without && ((heads.empty() && !sizes.entry("attention.head_count")) || (!heads.empty() && heads[0] == 0))) {
        return sizes.bad("attention.head_count", heads.empty() ? "missing" : "0", "1 or more");
    }
    for (size_t i = 0; i < heads.size(); ++i) {
        const auto at = [&](uint32_t value) { return std::to_string(value) + (layers > 1 ? " in layer " + std::to_string(i) : ""); };
        if (heads[i] > largest_size) {
            return sizes.bad("attention.head_count", at(heads[i]), "0 to " + std::to_string(largest_size));
        }
        if (i >= kv_heads.size() || kv_heads[i] == 0 || heads[i] == 0) {
            continue;
        }
        if (heads[i] % kv_heads[i] != 0) {
            return sizes.bad("attention.head_count_kv", at(kv_heads[i]), "a divisor of attention.head_count, " + std::to_string(heads[i]));
        }
    }
    return true;
}

Result<bool> check_norms(const Sizes & sizes) {
    for (const char * name : {"attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon", "attention.group_norm_epsilon"}) {
        if (const auto value = sizes.real(name); value && !(*value >= 0.0f && std::isfinite(*value))) {
            return sizes.bad(name, std::to_string(*value), "0 or a small positive number, like 1e-6");
        }
    }
    return true;
}

} // namespace

Result<bool> check_sizes(const RawGguf & header, const std::string & path) {
    const Sizes sizes(header, path);
    if (sizes.architecture() == LLM_ARCH_UNKNOWN || sizes.architecture() == LLM_ARCH_CLIP) {
        return true; // refused by name
    }
    for (const Range & range : ranges) {
        if (auto ok = sizes.within(range.name, range.least, range.most); !ok) {
            return ok.error();
        }
    }
    const auto layers = sizes.number("block_count");
    if (!layers) {
        return true; // refused by name
    }
    if (auto ok = sizes.within("nextn_predict_layers", 0, *layers); !ok) {
        return ok.error();
    }
    if (sizes.number("ssm.group_count") == 0u && sizes.architecture() != LLM_ARCH_PLAMO2) {
        return sizes.bad("ssm.group_count", "0", "1 or more");
    }
    if (const RawEntry * scaling = sizes.entry("rope.scaling.type"); scaling && scaling->type == GGUF_TYPE_STRING) {
        const std::string type = text_of(header.metadata, scaling->key);
        if (type != "none" && type != "linear" && type != "yarn" && type != "longrope") {
            return sizes.bad("rope.scaling.type", "'" + type + "'", "none, linear, yarn or longrope");
        }
    }
    if (auto ok = check_norms(sizes); !ok) {
        return ok.error();
    }
    if (auto ok = check_experts(sizes, *layers); !ok) {
        return ok.error();
    }
    return check_heads(sizes, *layers);
}

} // namespace ternion
