// .h1b, the format of rocm-cpp: a fixed order of tensors behind a short header, without names, alignment or tokenizer.
#include "import_plan.h"

#include "block_layout.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

namespace ternion {
namespace {

enum Flag { hadamard_rotated = 1, sherry_fp16 = 2, bonsai_q1 = 4, bonsai_tq2 = 8 };
constexpr int32_t most_layers = 1 << 12, most_width = 1 << 18, most_tokens = 1 << 22;

struct H1b {
    int32_t version = 0;
    int32_t hidden = 0, intermediate = 0, layers = 0, heads = 0, kv_heads = 0, vocabulary = 0, context = 0, tied = 0, flags = 0;
    float rope_base = 500000.0f, epsilon = 1e-5f;
    uint64_t header_bytes = 44;

    Packing packing() const { return version == 3 ? Packing::five_bit : version == 4 ? Packing::base3 : Packing::two_bit; }
};

Error refused(const ImportOptions & options, ErrorCode code, const std::string & why) {
    return {code, options.input + ": " + why, {{"path", options.input}}};
}

Result<H1b> read_header(const ImportOptions & options) {
    std::ifstream file(options.input, std::ios::binary);
    H1b h;
    char magic[4];
    int32_t sizes[10];
    if (!file.read(magic, sizeof(magic)) || !file.read(reinterpret_cast<char *>(sizes), sizeof(sizes))) {
        return refused(options, ErrorCode::model_invalid, "ends within its header");
    }
    std::memcpy(&h.version, sizes, sizeof(sizes)); // version and sizes are neighbours, in this order
    if (h.version >= 2) {
        float floats[2];
        if (!file.read(reinterpret_cast<char *>(floats), sizeof(floats))) {
            return refused(options, ErrorCode::model_invalid, "ends within its header");
        }
        h.rope_base = floats[0] > 0.0f ? floats[0] : h.rope_base;
        h.epsilon = floats[1] > 0.0f ? floats[1] : h.epsilon;
        h.header_bytes += sizeof(floats);
    }
    return h;
}

Result<bool> check_header(const ImportOptions & options, const H1b & h) {
    const auto unsupported = [&](const std::string & why) { return refused(options, ErrorCode::model_unsupported, why); };
    if (h.version == 5) {
        return unsupported("version 5 holds eight-bit tiles for one GPU's matrix units, not ternary weights; import the file that it was made from");
    }
    if (h.version < 1 || h.version > 5) {
        return refused(options, ErrorCode::model_invalid, "version " + std::to_string(h.version) + ", expected 1 to 4");
    }
    if (h.flags & hadamard_rotated) {
        return unsupported("its weights are meant for activations that a Hadamard transform has rotated; llama.cpp has no such graph, and without it the results are noise");
    }
    if (h.flags & (bonsai_q1 | bonsai_tq2)) {
        return unsupported("a Bonsai model, whose norms and embedding are in a .gguf beside it; use that file");
    }
    if (h.flags & ~sherry_fp16) {
        return unsupported("flags " + std::to_string(h.flags) + ", of which only 2 (fp16 activations for Sherry) is known");
    }
    const auto within = [](int32_t n, int32_t most) { return n >= 1 && n <= most; };
    if (!within(h.hidden, most_width) || !within(h.intermediate, most_width) || !within(h.layers, most_layers) || !within(h.heads, h.hidden) ||
        !within(h.kv_heads, h.heads) || !within(h.vocabulary, most_tokens) || h.context < 1 || h.hidden % h.heads != 0 || h.heads % h.kv_heads != 0 ||
        !std::isfinite(h.rope_base) || !std::isfinite(h.epsilon)) {
        return refused(options, ErrorCode::model_invalid,
                       "impossible sizes: hidden " + std::to_string(h.hidden) + ", intermediate " + std::to_string(h.intermediate) + ", layers " + std::to_string(h.layers) + ", heads " +
                           std::to_string(h.heads) + ", KV heads " + std::to_string(h.kv_heads) + ", vocabulary " + std::to_string(h.vocabulary) + ", context " + std::to_string(h.context));
    }
    if (auto ok = check_rows("attn_q", h.hidden); !ok) {
        return ok.error();
    }
    return check_rows("ffn_down", h.intermediate);
}

/// Walks over the file in its order. Sizes were checked: no sum comes near 2^63.
class Walk {
  public:
    Walk(const H1b & h, ggml_type type, ImportPlan & plan) : h_(h), type_(type), plan_(plan), at_(h.header_bytes) {}

    void floats(const std::string & name, std::vector<int64_t> shape, ggml_type type = GGML_TYPE_F32) {
        uint64_t bytes = sizeof(float);
        for (const int64_t n : shape) {
            bytes *= static_cast<uint64_t>(n);
        }
        if (!name.empty()) {
            plan_.tensors.push_back({name + ".weight", std::move(shape), type, GGML_TYPE_F32, at_});
        }
        at_ += bytes;
    }

    void skip(int64_t n_floats) { floats({}, {n_floats}); }

    void ternary(const std::string & name, int64_t columns, int64_t rows) {
        const uint64_t matrix = packed_row_bytes(h_.packing(), columns) * static_cast<uint64_t>(rows);
        plan_.tensors.push_back({name + ".weight", {columns, rows}, type_, type_, at_, h_.packing(), at_ + matrix, true});
        plan_.report.ternary++;
        at_ += matrix + sizeof(float) * static_cast<uint64_t>(rows);
    }

    uint64_t at() const { return at_; }

  private:
    const H1b & h_;
    const ggml_type type_;
    ImportPlan & plan_;
    uint64_t at_;
};

void plan_layer(const H1b & h, int32_t index, Walk & walk) {
    const std::string layer = "blk." + std::to_string(index) + ".";
    const int64_t kv = int64_t{h.hidden} / h.heads * h.kv_heads;
    walk.floats(layer + "attn_norm", {h.hidden});
    walk.floats(layer + "ffn_norm", {h.hidden});
    walk.floats(layer + "attn_sub_norm", {h.hidden});
    walk.skip(5 * int64_t{h.hidden}); // copies of sub-norms, some of them cut
    walk.floats(layer + "ffn_sub_norm", {h.intermediate});
    walk.ternary(layer + "attn_q", h.hidden, h.hidden);
    walk.ternary(layer + "attn_k", h.hidden, kv);
    walk.ternary(layer + "attn_v", h.hidden, kv);
    walk.ternary(layer + "attn_output", h.hidden, h.hidden);
    walk.ternary(layer + "ffn_gate", h.hidden, h.intermediate);
    walk.ternary(layer + "ffn_up", h.hidden, h.intermediate);
    walk.ternary(layer + "ffn_down", h.intermediate, h.hidden);
}

void write_metadata(const ImportOptions & options, const H1b & h, ggml_type type, std::vector<RawEntry> & metadata) {
    const auto u32 = [&](const char * key, int32_t value) { set_u32(metadata, std::string("bitnet.") + key, static_cast<uint32_t>(value)); };
    set_text(metadata, "general.architecture", "bitnet");
    set_text(metadata, "general.name", std::filesystem::path(options.input).stem().string());
    set_u32(metadata, "general.file_type", type == GGML_TYPE_TQ1_0 ? 36 : 37); // LLAMA_FTYPE_MOSTLY_TQ1_0, _TQ2_0
    set_u32(metadata, "general.quantization_version", GGML_QNT_VERSION);
    u32("vocab_size", h.vocabulary);
    u32("context_length", h.context);
    u32("embedding_length", h.hidden);
    u32("block_count", h.layers);
    u32("feed_forward_length", h.intermediate);
    u32("attention.head_count", h.heads);
    u32("attention.head_count_kv", h.kv_heads);
    u32("rope.dimension_count", h.hidden / h.heads);
    set_f32(metadata, "bitnet.attention.layer_norm_rms_epsilon", h.epsilon);
    set_f32(metadata, "bitnet.rope.freq_base", h.rope_base);
    set_text(metadata, "bitnet.feed_forward.activation", "relu2");
}

} // namespace

Result<ImportPlan> plan_h1b_import(const ImportOptions & options, ggml_type type) {
    auto h = read_header(options);
    if (!h) {
        return h.error();
    }
    if (auto ok = check_header(options, *h); !ok) {
        return ok.error();
    }
    ImportPlan plan;
    plan.report.source = "h1b version " + std::to_string(h->version);
    plan.report.architecture = "bitnet";
    plan.report.activation = "relu2";
    const ggml_type chosen = type_by_name(options.embedding);
    const ggml_type table = chosen == GGML_TYPE_COUNT ? GGML_TYPE_F32 : chosen;
    Walk walk(*h, type, plan);
    walk.floats("token_embd", {h->hidden, h->vocabulary}, table);
    walk.floats("output_norm", {h->hidden});
    for (int32_t i = 0; i < h->layers; ++i) {
        plan_layer(*h, i, walk);
    }
    if (h->tied == 0) {
        walk.floats("output", {h->hidden, h->vocabulary}, table);
        plan.report.notes.push_back("the file has an output head of its own behind its layers; the program that the format comes from ignores it");
    }
    // Nothing in the file says where a tensor begins, so its length is the only proof that all of them were found.
    std::error_code failed;
    const uint64_t bytes = std::filesystem::file_size(options.input, failed);
    if (failed || bytes != walk.at()) {
        return refused(options, ErrorCode::model_invalid,
                       "has " + std::to_string(bytes) + " bytes, but its header describes " + std::to_string(walk.at()) +
                           (h->tied == 0 ? " with an output head of its own" : "") + "; it is cut, or of another kind");
    }
    if (h->version == 3) {
        plan.report.notes.push_back("Sherry codes hold exactly one zero in four weights; a model that had more of them was changed when the file was made, and comes out as it stands there");
    }
    write_metadata(options, *h, type, plan.metadata);
    if (options.tokenizer.empty()) {
        return refused(options, ErrorCode::invalid_arg, "the format has no tokenizer; name a GGUF with the model's own (--tokenizer)");
    }
    if (auto ok = take_tokenizer(options.tokenizer, plan.metadata); !ok) {
        return ok.error();
    }
    if (auto ok = check_tokenizer(options, h->vocabulary, true, plan); !ok) {
        return ok.error();
    }
    return plan;
}

} // namespace ternion
