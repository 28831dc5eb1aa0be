#include "imatrix_file.h"

#include "backend.h"
#include "upstream_assertions.h"

#include "ggml.h"
#include "gguf.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string_view>

namespace ternion {
namespace {

constexpr std::string_view sums_suffix = ".in_sum2";
constexpr std::string_view counts_suffix = ".counts";

Error invalid(const std::string & path, const std::string & why) {
    return {ErrorCode::model_invalid, path + ": " + why + "; expected an importance matrix of llama-imatrix, in GGUF or its older format", {{"path", path}}};
}

std::string text_at(const gguf_context * gguf, const char * key) {
    const int64_t id = gguf_find_key(gguf, key);
    const bool texts = id >= 0 && gguf_get_kv_type(gguf, id) == GGUF_TYPE_ARRAY && gguf_get_arr_type(gguf, id) == GGUF_TYPE_STRING;
    return texts && gguf_get_arr_n(gguf, id) > 0 ? gguf_get_arr_str(gguf, id, 0) : std::string();
}

/// `sums` has a row per matrix, `counts` how many activations each row is the sum of. What was never used counts evenly.
std::vector<float> means(const ggml_tensor * sums, const ggml_tensor * counts) {
    const auto * sum = static_cast<const float *>(sums->data);
    const auto * count = static_cast<const float *>(counts->data);
    const int64_t matrices = ggml_nelements(counts);
    const int64_t columns = ggml_nelements(sums) / matrices;
    std::vector<float> out;
    for (int64_t m = 0; m < matrices; ++m) {
        const float n = std::round(count[m]);
        for (int64_t i = 0; i < columns; ++i) {
            out.push_back(n > 0.0f ? sum[m * columns + i] / n : 1.0f);
        }
    }
    return out;
}

using Gguf = std::unique_ptr<gguf_context, void (*)(gguf_context *)>;

/// Nothing if the file is a GGUF, but no importance matrix.
std::optional<ImatrixFile> from_gguf(const std::string & path) {
    // A model would be read whole below, so the names are looked at first.
    const Gguf header(gguf_init_from_file(path.c_str(), {true, nullptr}), gguf_free);
    for (int64_t i = 0; i < (header ? gguf_get_n_tensors(header.get()) : 0); ++i) {
        const std::string_view name = gguf_get_tensor_name(header.get(), i);
        if (!name.ends_with(sums_suffix) && !name.ends_with(counts_suffix)) {
            return std::nullopt;
        }
    }
    // ggml takes the memory before it reads, and ends the process where there is none.
    std::error_code failed;
    const uint64_t file_bytes = std::filesystem::file_size(path, failed);
    uint64_t end = header ? gguf_get_data_offset(header.get()) : 0;
    const uint64_t alignment = header ? gguf_get_alignment(header.get()) : 1;
    for (int64_t i = 0; i < (header ? gguf_get_n_tensors(header.get()) : 0); ++i) {
        const uint64_t bytes = gguf_get_tensor_size(header.get(), i);
        if (failed || end > file_bytes || bytes > file_bytes - end) {
            return std::nullopt;
        }
        end += (bytes + alignment - 1) / alignment * alignment; // as gguf.cpp adds them up; the file may end with the last one's bytes
    }
    ggml_context * data = nullptr;
    const Gguf gguf(header ? gguf_init_from_file(path.c_str(), {false, &data}) : nullptr, gguf_free);
    const std::unique_ptr<ggml_context, void (*)(ggml_context *)> tensors(data, ggml_free);
    if (!gguf || !tensors) {
        return std::nullopt;
    }
    ImatrixFile file;
    file.dataset = text_at(gguf.get(), "imatrix.datasets");
    const int64_t chunks = gguf_find_key(gguf.get(), "imatrix.chunk_count");
    if (chunks >= 0 && gguf_get_kv_type(gguf.get(), chunks) == GGUF_TYPE_UINT32) {
        file.chunks = static_cast<int32_t>(gguf_get_val_u32(gguf.get(), chunks));
    }
    for (ggml_tensor * sums = ggml_get_first_tensor(data); sums; sums = ggml_get_next_tensor(data, sums)) {
        const std::string_view name = sums->name;
        if (!name.ends_with(sums_suffix)) {
            continue;
        }
        const std::string matrix(name.substr(0, name.size() - sums_suffix.size()));
        const ggml_tensor * counts = ggml_get_tensor(data, (matrix + std::string(counts_suffix)).c_str());
        if (!counts || sums->type != GGML_TYPE_F32 || counts->type != GGML_TYPE_F32 || ggml_nelements(counts) == 0 ||
            ggml_nelements(sums) % ggml_nelements(counts) != 0) {
            return std::nullopt;
        }
        file.entries.emplace(matrix, means(sums, counts));
    }
    return file;
}

/// The format of before: i32 entries; each i32 length, name, i32 calls, i32 values, f32 sums (already divided by what was summed,
/// times calls); then perhaps i32 chunks, i32 length, name of the data. Nothing for bytes that are not so.
std::optional<ImatrixFile> from_old_format(const std::string & path) {
    constexpr int32_t most_entries = 1 << 20, longest_name = 1 << 12;
    std::error_code failed;
    const uint64_t file_bytes = std::filesystem::file_size(path, failed);
    std::ifstream in(path, std::ios::binary);
    const auto integer = [&] {
        int32_t value = -1;
        in.read(reinterpret_cast<char *>(&value), sizeof(value));
        return in ? value : -1;
    };
    const auto text = [&](int32_t length) {
        std::string out(static_cast<size_t>(length), '\0');
        in.read(out.data(), length);
        return out.substr(0, out.find('\0'));
    };
    ImatrixFile file;
    const int32_t n = integer();
    if (failed || n < 1 || n > most_entries) {
        return std::nullopt;
    }
    for (int32_t i = 0; i < n; ++i) {
        const int32_t length = integer();
        if (length < 1 || length > longest_name) {
            return std::nullopt;
        }
        const std::string name = text(length);
        const int32_t calls = integer();
        const int32_t count = integer();
        if (!in || count < 1 || static_cast<uint64_t>(count) * sizeof(float) > file_bytes) {
            return std::nullopt;
        }
        std::vector<float> values(static_cast<size_t>(count));
        in.read(reinterpret_cast<char *>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
        if (!in) {
            return std::nullopt;
        }
        for (float & value : values) {
            value = calls > 0 ? value / static_cast<float>(calls) : value;
        }
        file.entries[name] = std::move(values);
    }
    file.chunks = std::max(0, integer());
    if (const int32_t length = integer(); length > 0 && length <= longest_name) {
        file.dataset = text(length);
    }
    return file;
}

} // namespace

Result<ImatrixFile> ImatrixFile::read(const std::string & path) {
    backend_init();
    if (std::error_code failed; !std::filesystem::is_regular_file(path, failed)) {
        return Error{ErrorCode::model_not_found, path + ": " + (failed ? failed.message() : "no such file"), {{"path", path}}};
    }
    char magic[4] = {};
    std::ifstream(path, std::ios::binary).read(magic, sizeof(magic));
    const bool is_gguf = std::memcmp(magic, "GGUF", sizeof(magic)) == 0;
    std::optional<ImatrixFile> file;
    try {
        const CatchAssertions caught;
        file = is_gguf ? from_gguf(path) : from_old_format(path);
    } catch (const std::runtime_error & e) {
        if (means_no_memory(e.what())) {
            throw std::bad_alloc();
        }
        return invalid(path, e.what());
    }
    if (!file || file->entries.empty()) {
        return invalid(path, "there is no importance matrix in it");
    }
    for (const auto & [name, values] : file->entries) {
        if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value) && value >= 0.0f; })) {
            return invalid(path, "the importance of " + name + " has values that are negative or not finite");
        }
    }
    return std::move(*file);
}

} // namespace ternion
