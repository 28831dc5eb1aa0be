// Models of other programs' ternary formats as GGUF files of TQ1_0 or TQ2_0.
#pragma once

#include "error.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace ternion {

struct ImportOptions {
    std::string input;  // a GGUF with tensors of I2_S, or an .h1b file; told apart by their first bytes
    std::string output;
    std::string type;      // of the ternary matrices: "tq1_0" or "tq2_0"
    std::string tokenizer; // a GGUF whose tokenizer is taken; empty: the input's own
    std::string embedding; // ggml's name of the type that embedding and head get; empty: as they are
};

struct ImportReport {
    std::string source; // "GGUF with I2_S", "h1b version 2" …
    std::string architecture;
    std::string activation; // "relu2"; empty where the architecture leaves no choice, or nothing is known
    uint64_t bytes = 0;
    uint64_t ternary = 0, converted = 0, kept = 0; // tensors
    // Scales are rounded to half precision; nothing else of a ternary weight is lost.
    double largest_scale_error = 0.0; // relative
    std::vector<std::string> notes;   // what a person should know about the result
};

/// Writes the file under a temporary name and renames it when it is whole. Memory stays at the header and a few megabytes.
/// Blocks; `cancel` may be set by any thread. model_not_found and model_invalid for the files that are read,
/// model_unsupported for what cannot be imported, invalid_arg for the options, io for what the file system refuses.
Result<ImportReport> import_model(const ImportOptions & options, const std::function<void(double)> & progress, const std::atomic<bool> & cancel);

} // namespace ternion
