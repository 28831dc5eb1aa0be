// A GGUF header as bytes: for files whose types llama.cpp refuses, and for metadata that is passed on as it stands.
#pragma once

#include "error.h"

#include <cstdint>
#include <string>
#include <vector>

namespace ternion {

struct RawEntry {
    std::string key;
    uint32_t type = 0; // gguf_type
    std::string value; // the bytes after the type's number
};

struct RawTensor {
    std::string name;
    uint32_t type = 0; // the number in the file; what it means depends on who wrote it
    std::vector<int64_t> shape;
    uint64_t offset = 0; // from the start of the data section
    uint64_t extent = 0; // bytes to the next tensor or the file's end, padding included
};

/// A tensor of a header that is to be written; offsets follow from the sizes.
struct TensorRow {
    std::string name;
    uint32_t type = 0;
    std::vector<int64_t> shape;
    uint64_t bytes = 0;
};

struct RawGguf {
    std::vector<RawEntry> metadata;
    std::vector<RawTensor> tensors;
    uint64_t data_offset = 0;
    uint64_t alignment = 32;
    uint64_t file_bytes = 0;

    /// Any thread. Takes versions 2 and 3 in little-endian order. model_not_found, or model_invalid with the reason; a
    /// tensor that begins behind the file's end is one.
    static Result<RawGguf> read(const std::string & path);
};

/// Null if there is none.
const RawEntry * find_entry(const std::vector<RawEntry> & metadata, const std::string & key);
/// Empty, or 0, for a key that is not there or is of another kind.
std::string text_of(const std::vector<RawEntry> & metadata, const std::string & key);
uint64_t number_of(const std::vector<RawEntry> & metadata, const std::string & key);
uint64_t array_length(const std::vector<RawEntry> & metadata, const std::string & key);

// Replace the entry of that key, or add one.
void set_entry(std::vector<RawEntry> & metadata, RawEntry entry);
void set_text(std::vector<RawEntry> & metadata, const std::string & key, const std::string & text);
void set_u32(std::vector<RawEntry> & metadata, const std::string & key, uint32_t number);
void set_f32(std::vector<RawEntry> & metadata, const std::string & key, float number);

constexpr uint64_t written_alignment = 32;
inline uint64_t padded(uint64_t bytes) { return (bytes + written_alignment - 1) / written_alignment * written_alignment; }

/// All that goes before the tensors' data, padded; data is expected in the order of `tensors`, each padded.
std::string header_bytes(const std::vector<RawEntry> & metadata, const std::vector<TensorRow> & tensors);

} // namespace ternion
