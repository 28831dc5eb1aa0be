// The tokenizer of a model, as its metadata gives it.
#include "gguf_check.h"

#include "gguf.h"

#include <cstring>
#include <string_view>
#include <unordered_map>

namespace ternion {
namespace {

constexpr uint64_t most_tokens = 1 << 24; // of a vocabulary; the largest have some 300,000

} // namespace

Result<bool> check_vocabulary(const RawGguf & header, const std::string & path) {
    const std::string key = "tokenizer.ggml.tokens";
    const RawEntry * tokens = find_entry(header.metadata, key);
    uint32_t item = GGUF_TYPE_COUNT;
    if (tokens && tokens->type == GGUF_TYPE_ARRAY) {
        std::memcpy(&item, tokens->value.data(), sizeof(item));
    }
    const std::string model = text_of(header.metadata, "tokenizer.ggml.model");
    if (item != GGUF_TYPE_STRING || model.empty() || model == "no_vocab" || model == "none") {
        return true; // none, or refused by name
    }
    const uint64_t n = array_length(header.metadata, key);
    if (n < 1 || n > most_tokens) {
        return bad_metadata(path, key, "a list of " + std::to_string(n) + " texts", "1 to " + std::to_string(most_tokens));
    }
    std::unordered_map<std::string_view, uint64_t> ids;
    ids.reserve(n);
    const char * at = tokens->value.data() + sizeof(uint32_t) + sizeof(uint64_t);
    for (uint64_t id = 0; id < n; ++id) {
        uint64_t bytes;
        std::memcpy(&bytes, at, sizeof(bytes));
        const std::string_view whole(at + sizeof(bytes), bytes);
        const std::string_view token = whole.substr(0, whole.find('\0')); // llama.cpp reads no further
        at += sizeof(bytes) + bytes;
        if (token.empty()) {
            continue; // gets a name of its own
        }
        const auto [other, first] = ids.emplace(token, id);
        if (!first) {
            return bad_metadata(path, key, "a list with the same text twice, for the tokens " + std::to_string(other->second) + " and " + std::to_string(id), "a text for each token that no other has");
        }
    }
    return true;
}

} // namespace ternion
