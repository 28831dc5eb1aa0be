// The header of a GGUF file: metadata and tensor table, read without its weights.
#pragma once

#include "error.h"

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace ternion {

struct GgufScalar {
    std::variant<bool, int64_t, uint64_t, double, std::string> value;
};

struct GgufEntry {
    std::string key;
    std::string type; // "u32", "str", "arr[str]" …
    bool is_array = false;
    uint64_t length = 0;             // of an array, the true one
    std::vector<GgufScalar> values;  // one, or of an array the first: per-layer facts whole, vocabularies not
};

struct GgufTensor {
    std::string name;
    std::string type;
    std::vector<int64_t> shape; // ggml order: row length first; trailing ones left out
    uint64_t bytes = 0;
    uint64_t offset = 0; // from the start of the data section
};

struct GgufFile {
    uint32_t version = 0;
    uint64_t alignment = 0;
    uint64_t data_offset = 0;
    uint64_t file_bytes = 0;
    std::vector<GgufEntry> metadata;
    std::vector<GgufTensor> tensors;

    static constexpr uint64_t most_tensors = 1 << 16, most_entries = 1 << 14; // far above any model's
    static constexpr uint64_t array_preview = 64;         // of texts
    static constexpr uint64_t number_array_preview = 1024; // more than any model has layers

    /// Any thread. model_not_found or model_invalid with the reason.
    static Result<GgufFile> read(const std::string & path);
};

/// What can be said about a GGUF file before upstream sees it: that it exists, starts like one, and does not say that it has more than any model.
Result<bool> check_gguf_file(const std::string & path);

} // namespace ternion
