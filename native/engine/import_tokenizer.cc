#include "import_plan.h"

namespace ternion {
namespace {

constexpr int64_t llama3_tokens = 128256;

Error unsupported(const std::string & why) { return {ErrorCode::model_unsupported, why}; }

} // namespace

Result<bool> take_tokenizer(const std::string & path, std::vector<RawEntry> & metadata) {
    auto source = RawGguf::read(path);
    if (!source) {
        return source.error();
    }
    if (array_length(source->metadata, "tokenizer.ggml.tokens") == 0) {
        return Error{ErrorCode::model_invalid, path + ": no tokenizer in it", {{"path", path}}};
    }
    std::erase_if(metadata, [](const RawEntry & entry) { return entry.key.starts_with("tokenizer."); });
    for (RawEntry & entry : source->metadata) {
        if (entry.key.starts_with("tokenizer.")) {
            metadata.push_back(std::move(entry));
        }
    }
    return true;
}

Result<bool> check_tokenizer(const ImportOptions & options, int64_t rows, bool is_bitnet, ImportPlan & plan) {
    std::vector<RawEntry> & metadata = plan.metadata;
    const std::string & owner = options.tokenizer.empty() ? options.input : options.tokenizer;
    const std::string advice = "; name a GGUF with the model's own tokenizer (--tokenizer)";
    const auto tokens = static_cast<int64_t>(array_length(metadata, "tokenizer.ggml.tokens"));
    if (tokens == 0) {
        return unsupported(owner + ": there is no tokenizer in it" + advice);
    }
    if (tokens != rows) {
        return unsupported(owner + ": the tokenizer has " + std::to_string(tokens) + " tokens, the embedding " + std::to_string(rows) + " rows" + advice);
    }
    const std::string model = text_of(metadata, "tokenizer.ggml.model");
    if (is_bitnet && tokens == llama3_tokens && model != "gpt2") {
        return unsupported(owner + ": the vocabulary is of the kind '" + model +
                           "', but BitNet-b1.58-2B-4T has LLaMA 3's byte-pair encoding, whose merges cannot be made from it" + advice);
    }
    if (model != "gpt2") {
        return true;
    }
    if (array_length(metadata, "tokenizer.ggml.merges") == 0) {
        return unsupported(owner + ": a byte-pair vocabulary without its merges, which cannot be made from the tokens" + advice);
    }
    const std::string pre = text_of(metadata, "tokenizer.ggml.pre");
    if ((pre.empty() || pre == "default") && tokens == llama3_tokens) {
        set_text(metadata, "tokenizer.ggml.pre", "llama-bpe");
        plan.report.notes.push_back("the tokenizer did not name its pre-tokenizer; with LLaMA 3's 128256 tokens it is llama-bpe");
    } else if (pre == "falcon_e") {
        plan.report.notes.push_back("llama.cpp does not know the pre-tokenizer 'falcon_e' and will not load the file; name a GGUF of the same model with a tokenizer that it knows (--tokenizer)");
    } else if (pre.empty()) {
        plan.report.notes.push_back("the tokenizer does not name its pre-tokenizer, so numbers and spaces may be cut wrongly");
    }
    return true;
}

} // namespace ternion
