// GGUF files of any shape with seeded random weights.
#pragma once

#include "error.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <variant>
#include <vector>

namespace ternion {

struct SynthValue {
    std::string key;
    // Integers are written as u32, numbers as f32, lists of integers as i32 arrays.
    std::variant<bool, int64_t, double, std::string, std::vector<int64_t>> value;
};

struct SynthTensor {
    std::string name;
    std::string type;           // ggml's name: "tq2_0", "q8_0", "f32" …
    std::vector<int64_t> shape; // ggml order: row length first
    bool random = true;
    double value = 0.0; // random: the weights' standard deviation; else what every weight is (floating types only)
};

struct SynthOptions {
    std::string path;
    std::string tokenizer; // a GGUF whose tokenizer.* keys are copied
    int64_t vocabulary = 0; // the token list is filled up to this with unused tokens; 0: as it is
    std::vector<SynthValue> metadata;
    std::vector<SynthTensor> tensors;
    uint64_t seed = 1;
    bool header_only = false; // full metadata and tensor table in a sparse file of the full size
};

/// Writes the file under a temporary name and renames it when it is whole; returns its size in bytes. Memory stays at a
/// few megabytes. Blocks; `cancel` may be set by any thread. The same options give the same bytes on every machine.
/// invalid_arg for impossible tensors, io for what the file system refuses, model_invalid for the tokenizer's file.
Result<uint64_t> synthesize(const SynthOptions & options, const std::function<void(double)> & progress, const std::atomic<bool> & cancel);

} // namespace ternion
