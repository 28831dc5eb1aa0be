#include "gguf_file.h"

#include "backend.h"
#include "log.h"

#include "ggml.h"
#include "gguf.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

namespace ternion {
namespace {

template <typename T>
T element(const void * data, size_t i) {
    T value;
    std::memcpy(&value, static_cast<const char *>(data) + i * sizeof(T), sizeof(T));
    return value;
}

/// Element `i` of raw values of `type` (not strings, not arrays).
GgufScalar scalar(gguf_type type, const void * data, size_t i) {
    switch (type) {
        case GGUF_TYPE_UINT8:   return {static_cast<int64_t>(element<uint8_t>(data, i))};
        case GGUF_TYPE_INT8:    return {static_cast<int64_t>(element<int8_t>(data, i))};
        case GGUF_TYPE_UINT16:  return {static_cast<int64_t>(element<uint16_t>(data, i))};
        case GGUF_TYPE_INT16:   return {static_cast<int64_t>(element<int16_t>(data, i))};
        case GGUF_TYPE_UINT32:  return {static_cast<int64_t>(element<uint32_t>(data, i))};
        case GGUF_TYPE_INT32:   return {static_cast<int64_t>(element<int32_t>(data, i))};
        case GGUF_TYPE_UINT64:  return {element<uint64_t>(data, i)};
        case GGUF_TYPE_INT64:   return {element<int64_t>(data, i)};
        case GGUF_TYPE_FLOAT32: return {static_cast<double>(element<float>(data, i))};
        case GGUF_TYPE_FLOAT64: return {element<double>(data, i)};
        case GGUF_TYPE_BOOL:    return {element<int8_t>(data, i) != 0};
        default:                return {std::string()};
    }
}

GgufEntry read_entry(const gguf_context * gguf, int64_t id) {
    GgufEntry entry;
    entry.key = gguf_get_key(gguf, id);
    const gguf_type type = gguf_get_kv_type(gguf, id);
    entry.type = gguf_type_name(type);
    if (type == GGUF_TYPE_STRING) {
        entry.values.push_back({std::string(gguf_get_val_str(gguf, id))});
    } else if (type != GGUF_TYPE_ARRAY) {
        entry.values.push_back(scalar(type, gguf_get_val_data(gguf, id), 0));
    } else {
        const gguf_type item = gguf_get_arr_type(gguf, id);
        entry.type += std::string("[") + gguf_type_name(item) + "]";
        entry.is_array = true;
        entry.length = gguf_get_arr_n(gguf, id);
        const bool texts = item == GGUF_TYPE_STRING;
        // Scores and token types are as long as a vocabulary; what is given per layer is needed whole.
        const size_t n = std::min<uint64_t>(entry.length, !texts && entry.length <= GgufFile::number_array_preview
                                                              ? GgufFile::number_array_preview
                                                              : GgufFile::array_preview);
        for (size_t i = 0; i < n; ++i) {
            entry.values.push_back(texts ? GgufScalar{std::string(gguf_get_arr_str(gguf, id, i))}
                                                            : scalar(item, gguf_get_arr_data(gguf, id), i));
        }
    }
    return entry;
}

} // namespace

Result<bool> check_gguf_file(const std::string & path) {
    const auto fail = [&](ErrorCode code, const std::string & why) { return Error{code, path + ": " + why, {{"path", path}}}; };
    std::error_code ec;
    const auto status = std::filesystem::status(path, ec);
    if (!std::filesystem::exists(status)) {
        return fail(ErrorCode::model_not_found, ec ? ec.message() : "no such file");
    }
    if (std::filesystem::is_directory(status)) {
        return fail(ErrorCode::model_invalid, "is a directory, expected a GGUF file");
    }
    if (!std::filesystem::is_regular_file(status)) { // to open a pipe would wait for its other end
        return fail(ErrorCode::model_invalid, "is a pipe or a device, expected a GGUF file");
    }
    const std::unique_ptr<FILE, int (*)(FILE *)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    if (!file) {
        return fail(errno == ENOENT ? ErrorCode::model_not_found : ErrorCode::model_invalid, std::strerror(errno));
    }
    char magic[4] = {};
    uint32_t version = 0;
    uint64_t counts[2] = {}; // of tensors and of metadata
    const size_t n = std::fread(magic, 1, sizeof(magic), file.get());
    if (n == 0) {
        return fail(ErrorCode::model_invalid, "the file is empty, expected a GGUF file");
    }
    if (n < sizeof(magic) || std::memcmp(magic, "GGUF", 4) != 0) {
        return fail(ErrorCode::model_invalid, "does not start with the magic \"GGUF\"; expected a GGUF file");
    }
    // llama.cpp compares each name with all before it: what no model has would take hours.
    if (std::fread(&version, sizeof(version), 1, file.get()) != 1 || std::fread(counts, sizeof(counts), 1, file.get()) != 1) {
        return fail(ErrorCode::model_invalid, "the file ends within its header, after fewer than 24 bytes; it is incomplete: get it again");
    }
    const bool known = version == 2 || version == 3; // others are refused as such, before anything is counted
    if (known && (counts[0] > GgufFile::most_tensors || counts[1] > GgufFile::most_entries)) {
        return fail(ErrorCode::model_invalid, "its header is larger than any model's: it counts " + std::to_string(counts[0]) + " tensors and " + std::to_string(counts[1]) + " entries of metadata; expected at most " +
                                                  std::to_string(GgufFile::most_tensors) + " and " + std::to_string(GgufFile::most_entries) + ". The file is damaged: get it again");
    }
    return true;
}

Result<GgufFile> GgufFile::read(const std::string & path) {
    backend_init();
    if (auto ok = check_gguf_file(path); !ok) {
        return ok.error();
    }
    LogCapture capture;
    try {
        const std::unique_ptr<gguf_context, void (*)(gguf_context *)> gguf(
            gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = nullptr}), gguf_free);
        if (!gguf) {
            return Error{ErrorCode::model_invalid, path + ": " + capture.text("the GGUF header is damaged"), {{"path", path}}};
        }
        GgufFile file;
        std::error_code ec;
        file.file_bytes = std::filesystem::file_size(path, ec);
        file.version = gguf_get_version(gguf.get());
        file.alignment = gguf_get_alignment(gguf.get());
        file.data_offset = gguf_get_data_offset(gguf.get());
        for (int64_t i = 0; i < gguf_get_n_kv(gguf.get()); ++i) {
            file.metadata.push_back(read_entry(gguf.get(), i));
        }
        for (int64_t i = 0; i < gguf_get_n_tensors(gguf.get()); ++i) {
            GgufTensor & tensor = file.tensors.emplace_back();
            tensor.name = gguf_get_tensor_name(gguf.get(), i);
            tensor.type = ggml_type_name(gguf_get_tensor_type(gguf.get(), i));
            const int64_t * ne = gguf_get_tensor_ne(gguf.get(), i);
            size_t n_dims = GGML_MAX_DIMS;
            while (n_dims > 1 && ne[n_dims - 1] == 1) {
                n_dims--;
            }
            tensor.shape.assign(ne, ne + n_dims);
            tensor.bytes = gguf_get_tensor_size(gguf.get(), i);
            tensor.offset = gguf_get_tensor_offset(gguf.get(), i);
        }
        return file;
    } catch (const std::exception & e) {
        return Error{ErrorCode::model_invalid, path + ": " + e.what(), {{"path", path}}};
    }
}

} // namespace ternion
