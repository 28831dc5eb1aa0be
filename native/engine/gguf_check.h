// What is wrong with a model file, said before llama.cpp sees it: what it would assert, or not notice until it is too late.
#pragma once

#include "error.h"
#include "gguf_raw.h"

#include "llama.h"

#include <cstdint>
#include <string>

namespace ternion {

struct CheckedFile {
    uint64_t alignment = 0; // of the data, in bytes; the least of all parts
    size_t tensors = 0;     // of all parts: the first may have none
};

/// A model's file, or the first of several, whose names llama.cpp makes of the first's: limits of its header, tensors that lie in the file,
/// parts that are there and belong together, and with `weights` sizes. model_not_found or model_invalid, with what was found and expected.
/// Any thread; reads headers only. What llama.cpp itself refuses with words is left to it.
Result<CheckedFile> check_model_file(const std::string & path, bool weights);

/// What can only be said of the whole that llama.cpp made of a file: sizes that it computed, the tokenizer. model_invalid.
Result<bool> check_loaded_model(const llama_model * model, const std::string & path);

// The parts of check_model_file(), by what they look at. `header` is of `path`.
Result<bool> check_sizes(const RawGguf & header, const std::string & path);
Result<bool> check_vocabulary(const RawGguf & header, const std::string & path);

/// model_invalid: "FILE: METADATA KEY is FOUND; expected EXPECTED; …"
Error bad_metadata(const std::string & path, const std::string & key, const std::string & found, const std::string & expected);

} // namespace ternion
