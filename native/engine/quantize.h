// Quantises GGUF files: libllama's choice of types and its quantisers, watched tensor by tensor.
#pragma once

#include "error.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace ternion {

struct QuantizeOptions {
    std::vector<std::string> inputs; // the parts of the model, the first one first
    std::string output;
    std::string type;      // upstream's name of a mixture ("Q4_K_M"), STQ1_0 or COPY
    std::string embedding; // ggml's name of a type; empty: upstream's choice
    std::string head;      // the same
    std::string imatrix;   // path; may be empty
    bool allow_requantize = false;    // of tensors that were rounded before, unless they are ternary
    double most_ternary_error = 0.02; // relative error from which on weights are not ternary
    int threads = 0; // 0: default_threads()
};

struct QuantizedTensor {
    std::string name;
    std::string from;
    std::string to; // the same as `from`: copied
    uint64_t bytes = 0;
    double relative_error = 0.0;
    bool lossless = true; // every weight is the same number
};

struct QuantizeReport {
    uint64_t bytes = 0;          // of the file
    double relative_error = 0.0; // of all that were converted together
    std::vector<QuantizedTensor> tensors;
};

/// Writes the file under a temporary name and renames it when it is whole. Memory stays at a few times 8 MiB, or a row. Blocks;
/// `cancel` may be set by any thread and is heeded after 16,384 weights. Refused are an output that is one of the inputs
/// (invalid_arg), a ternary type for weights that are not ternary, rounding twice unasked (both model_unsupported), an importance
/// matrix that is needed and missing, or does not fit (invalid_arg). io for what the file system refuses.
Result<QuantizeReport> quantize(const QuantizeOptions & options, const std::function<void(double)> & progress, const std::atomic<bool> & cancel);

} // namespace ternion
