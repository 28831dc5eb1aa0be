#include "convert.h"

#include <limits>

namespace ternion::binding {
namespace {

struct Reader {
    napi_env env;
    napi_value object;

    napi_value operator[](const char * name) const { return property(env, object, name); }
    std::string string(const char * name) const { return to_string(env, (*this)[name]); }
    bool boolean(const char * name) const { return to_bool(env, (*this)[name]); }
    float real(const char * name) const { return static_cast<float>(to_number(env, (*this)[name])); }
    std::vector<std::string> strings(const char * name) const { return to_strings(env, (*this)[name]); }

    template <typename T>
    T integer(const char * name) const {
        const double number = to_number(env, (*this)[name]);
        if (!(number >= static_cast<double>(std::numeric_limits<T>::min()) && number <= static_cast<double>(std::numeric_limits<T>::max()))) {
            throw ArgumentError{std::string("native binding: ") + name + " is out of range"};
        }
        return static_cast<T>(number);
    }
};

ggml_type kv_type(const std::string & name) {
    for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q5_1, GGML_TYPE_Q5_0,
                                 GGML_TYPE_Q4_1, GGML_TYPE_Q4_0, GGML_TYPE_IQ4_NL}) {
        if (name == ggml_type_name(type)) {
            return type;
        }
    }
    throw ArgumentError{"native binding: unknown KV type " + name};
}

SamplingParams read_sampling(const Reader & in) {
    SamplingParams p;
    p.temperature = in.real("temperature");
    p.top_k = in.integer<int32_t>("topK");
    p.top_p = in.real("topP");
    p.min_p = in.real("minP");
    p.typical_p = in.real("typicalP");
    p.top_n_sigma = in.real("topNSigma");
    p.repeat_penalty = in.real("repeatPenalty");
    p.frequency_penalty = in.real("frequencyPenalty");
    p.presence_penalty = in.real("presencePenalty");
    p.penalty_last_n = in.integer<int32_t>("penaltyLastN");
    p.dry_multiplier = in.real("dryMultiplier");
    p.dry_base = in.real("dryBase");
    p.dry_allowed_length = in.integer<int32_t>("dryAllowedLength");
    p.dry_penalty_last_n = in.integer<int32_t>("dryPenaltyLastN");
    p.dry_sequence_breakers = in.strings("drySequenceBreakers");
    p.xtc_probability = in.real("xtcProbability");
    p.xtc_threshold = in.real("xtcThreshold");
    p.mirostat = in.integer<int32_t>("mirostat");
    p.mirostat_tau = in.real("mirostatTau");
    p.mirostat_eta = in.real("mirostatEta");
    p.seed = in.integer<uint32_t>("seed");
    p.order = in.strings("order");
    p.grammar = in.string("grammar");
    const std::vector<int32_t> tokens = to_int32s(in.env, in["biasTokens"]);
    const std::vector<float> values = to_floats(in.env, in["biasValues"]);
    if (tokens.size() != values.size()) {
        throw ArgumentError{"native binding: biasTokens and biasValues differ in length"};
    }
    for (size_t i = 0; i < tokens.size(); ++i) {
        p.logit_bias.push_back({tokens[i], values[i]});
    }
    return p;
}

} // namespace

EngineOptions read_load_options(napi_env env, napi_value object) {
    const Reader in{env, object};
    EngineOptions options;
    options.model.path = in.string("path");
    options.model.devices = in.strings("devices");
    options.model.gpu_layers = in.integer<int32_t>("gpuLayers");
    for (size_t i = 0; i < array_length(env, in["overrides"]); ++i) {
        const Reader override{env, element(env, in["overrides"], i)};
        options.model.overrides.push_back({override.string("pattern"), override.string("device"), override.boolean("required")});
    }
    options.model.allow_refused_weights = in.boolean("allowRefusedWeights");
    options.context.allow_refused_operations = in.boolean("allowRefusedOperations");
    options.model.fingerprint = in.string("fingerprint");
    options.model.mmap = in.boolean("mmap");
    options.model.kernels = in.string("kernels");
    options.model.packs = {in.string("packFolder"), static_cast<uint64_t>(in.integer<int64_t>("packBytes")), in.boolean("packVerify")};
    options.context.context = in.integer<uint32_t>("context");
    options.context.sequences = in.integer<uint32_t>("sequences");
    options.context.kv_tokens = in.integer<uint32_t>("kvTokens");
    options.context.spare = in.integer<int32_t>("spareSequences");
    options.context.ram_bytes = static_cast<uint64_t>(in.integer<int64_t>("ramBytes"));
    options.context.disk_bytes = static_cast<uint64_t>(in.integer<int64_t>("diskBytes"));
    options.context.disk_folder = in.string("diskFolder");
    options.context.checkpoint_bytes = static_cast<uint64_t>(in.integer<int64_t>("checkpointBytes"));
    options.context.expert_cache_bytes = static_cast<uint64_t>(in.integer<int64_t>("expertCacheBytes"));
    options.context.count_experts = in.boolean("countExperts");
    options.model.as_in_file = options.context.expert_cache_bytes > 0;
    options.context.threads = in.integer<int32_t>("threads");
    options.model.threads = options.context.threads;
    options.context.ubatch = in.integer<uint32_t>("ubatch");
    const std::string attention = in.string("flashAttention");
    options.context.attention = attention == "yes" ? FusedAttention::yes : attention == "no" ? FusedAttention::no : FusedAttention::where_it_can;
    options.context.kv_k = kv_type(in.string("kvK"));
    options.context.kv_v = kv_type(in.string("kvV"));
    return options;
}

std::vector<StepPoint> read_step_points(napi_env env, napi_value array) {
    std::vector<StepPoint> points;
    for (size_t i = 0; i < array_length(env, array); ++i) {
        const Reader in{env, element(env, array, i)};
        points.push_back({in.integer<uint32_t>("tokens"), in.integer<uint32_t>("depth")});
    }
    return points;
}

std::vector<ChatMessage> read_messages(napi_env env, napi_value array) {
    std::vector<ChatMessage> messages;
    for (size_t i = 0; i < array_length(env, array); ++i) {
        const Reader in{env, element(env, array, i)};
        messages.push_back({in.string("role"), in.string("content"), in.string("reasoning")});
    }
    return messages;
}

SynthOptions read_synth_options(napi_env env, napi_value object) {
    const Reader in{env, object};
    SynthOptions options;
    options.path = in.string("path");
    options.tokenizer = in.string("tokenizer");
    options.vocabulary = in.integer<int32_t>("vocabulary");
    options.seed = in.integer<uint32_t>("seed");
    options.header_only = in.boolean("headerOnly");
    for (size_t i = 0; i < array_length(env, in["metadata"]); ++i) {
        const Reader entry{env, element(env, in["metadata"], i)};
        const std::string type = entry.string("type");
        SynthValue value{entry.string("key"), false};
        if (type == "bool") {
            value.value = entry.boolean("value");
        } else if (type == "u32") {
            value.value = static_cast<int64_t>(entry.integer<uint32_t>("value"));
        } else if (type == "f32") {
            value.value = to_number(env, entry["value"]);
        } else if (type == "str") {
            value.value = entry.string("value");
        } else {
            const std::vector<int32_t> list = to_int32s(env, entry["value"]);
            value.value = std::vector<int64_t>(list.begin(), list.end());
        }
        options.metadata.push_back(std::move(value));
    }
    for (size_t i = 0; i < array_length(env, in["tensors"]); ++i) {
        const Reader entry{env, element(env, in["tensors"], i)};
        const std::vector<int32_t> shape = to_int32s(env, entry["shape"]);
        options.tensors.push_back({entry.string("name"), entry.string("type"), {shape.begin(), shape.end()},
                                   entry.boolean("random"), to_number(env, entry["value"])});
    }
    return options;
}

ImportOptions read_import_options(napi_env env, napi_value object) {
    const Reader in{env, object};
    return {in.string("input"), in.string("output"), in.string("type"), in.string("tokenizer"), in.string("embedding")};
}

QuantizeOptions read_quantize_options(napi_env env, napi_value object) {
    const Reader in{env, object};
    QuantizeOptions options;
    options.inputs = in.strings("inputs");
    options.output = in.string("output");
    options.type = in.string("type");
    options.embedding = in.string("embedding");
    options.head = in.string("head");
    options.imatrix = in.string("imatrix");
    options.allow_requantize = in.boolean("allowRequantize");
    options.most_ternary_error = to_number(env, in["mostTernaryError"]);
    options.threads = in.integer<int32_t>("threads");
    return options;
}

KernelBenchOptions read_kernel_bench_options(napi_env env, napi_value object) {
    const Reader in{env, object};
    KernelBenchOptions options;
    options.type = in.string("type");
    options.rows = in.integer<int32_t>("rows");
    options.columns = in.integer<int32_t>("columns");
    options.tokens = in.integer<int32_t>("tokens");
    options.experts = in.integer<int32_t>("experts");
    options.used = in.integer<int32_t>("used");
    options.copies = in.integer<int32_t>("copies");
    options.kernels = in.strings("kernels");
    return options;
}

GenerateRequest read_request(napi_env env, napi_value object) {
    const Reader in{env, object};
    GenerateRequest request;
    request.chat = !is_nullish(env, in["messages"]);
    if (request.chat) {
        request.messages = read_messages(env, in["messages"]);
    } else if (!is_nullish(env, in["tokens"])) {
        request.tokens = to_int32s(env, in["tokens"]);
    } else {
        request.text = in.string("text");
    }
    request.sampling = read_sampling({env, in["sampling"]});
    request.sampling.ignore_eos = in.boolean("ignoreEos");
    request.max_tokens = in.integer<int32_t>("maxTokens");
    request.stop = in.strings("stop");
    request.n_logprobs = in.integer<int32_t>("logprobs");
    request.thinking = in.boolean("reasoning");
    request.reasoning_budget = in.integer<int32_t>("reasoningBudget");
    request.priority = in.integer<int32_t>("priority");
    request.reserve = in.integer<int32_t>("reserve");
    request.shift = in.boolean("shift");
    return request;
}

} // namespace ternion::binding
