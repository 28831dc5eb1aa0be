#include "gguf_check.h"

#include "gguf_file.h"

#include "ggml.h"
#include "gguf.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>
#include <vector>

namespace ternion {
namespace {

constexpr const char * advice = "; the file is damaged, or a broken program wrote it: get it again, or convert the model again";

Error invalid(const std::string & path, const std::string & why) {
    return {ErrorCode::model_invalid, path + ": " + why + advice, {{"path", path}}};
}

std::optional<uint16_t> u16(const RawGguf & header, const char * key) {
    const RawEntry * entry = find_entry(header.metadata, key);
    if (!entry || entry->type != GGUF_TYPE_UINT16) {
        return std::nullopt;
    }
    uint16_t value;
    std::memcpy(&value, entry->value.data(), sizeof(value));
    return value;
}

// llama.cpp takes a part's number as it stands, whatever its type.
Result<bool> check_split_types(const RawGguf & header, const std::string & path) {
    for (const char * key : {"split.no", "split.count"}) {
        if (const RawEntry * entry = find_entry(header.metadata, key); entry && entry->type != GGUF_TYPE_UINT16) {
            return bad_metadata(path, key, std::string("of type ") + gguf_type_name(static_cast<gguf_type>(entry->type)), "type u16");
        }
    }
    return true;
}

/// Data that begins behind the end, or tensors that share bytes. What a type means and how long a tensor is, the reader of llama.cpp checks.
Result<bool> check_tensors(const RawGguf & header, const std::string & path) {
    std::vector<const RawTensor *> by_offset;
    for (const RawTensor & tensor : header.tensors) {
        by_offset.push_back(&tensor);
        if (tensor.offset % header.alignment != 0) {
            return invalid(path, "tensor " + tensor.name + " begins at byte " + std::to_string(tensor.offset) + " of the data; expected a multiple of " +
                                     std::to_string(header.alignment));
        }
    }
    std::sort(by_offset.begin(), by_offset.end(), [](const RawTensor * a, const RawTensor * b) { return a->offset < b->offset; });
    for (size_t i = 1; i < by_offset.size(); ++i) {
        if (by_offset[i]->offset == by_offset[i - 1]->offset) {
            return invalid(path, "tensors " + by_offset[i - 1]->name + " and " + by_offset[i]->name + " begin at the same byte, " +
                                     std::to_string(by_offset[i]->offset) + " of the data; expected that they do not overlap");
        }
    }
    return true;
}

Result<RawGguf> read_part(const std::string & path) {
    auto header = RawGguf::read(path);
    if (!header) {
        return header.error();
    }
    for (const auto check : {check_split_types, check_tensors}) {
        if (auto ok = check(*header, path); !ok) {
            return ok.error();
        }
    }
    return header;
}

/// The other parts of a model whose first is `path`.
Result<std::vector<std::string>> other_parts(const RawGguf & first, const std::string & path) {
    const int32_t count = u16(first, "split.count").value_or(0);
    std::vector<std::string> parts;
    if (count < 2) {
        return parts;
    }
    if (const int32_t number = u16(first, "split.no").value_or(0); number != 0) {
        return Error{ErrorCode::model_invalid,
                     path + ": is part " + std::to_string(number + 1) + " of " + std::to_string(count) + " of a model; give the first part (…-00001-of-" +
                         std::string(count < 10000 ? 5 - std::to_string(count).size() : 0, '0') + std::to_string(count) + ".gguf), the others are found beside it",
                     {{"path", path}}};
    }
    std::vector<char> prefix(path.size() + 32), part(path.size() + 64);
    if (llama_split_prefix(prefix.data(), prefix.size(), path.c_str(), 0, count) <= 0) {
        return invalid(path, "says that it is the first of " + std::to_string(count) + " parts of a model, but its name does not end in -00001-of-" +
                                 "NNNNN.gguf with that number, so that the others cannot be found; give the parts the names that they had");
    }
    for (int32_t i = 1; i < count; ++i) {
        llama_split_path(part.data(), part.size(), prefix.data(), i, count);
        parts.emplace_back(part.data());
    }
    return parts;
}

Result<bool> check_part(const std::string & path, const std::string & first, uint16_t number, uint16_t count, CheckedFile & checked) {
    if (std::error_code unknown; !std::filesystem::exists(path, unknown)) {
        return Error{ErrorCode::model_not_found,
                     path + ": no such file, but it is part " + std::to_string(number + 1) + " of " + std::to_string(count) + " of the model " + first + "; put it beside the first part",
                     {{"path", path}}};
    }
    const auto header = read_part(path);
    if (!header) {
        return header.error();
    }
    const auto found = u16(*header, "split.no");
    if (!found || *found != number) {
        return invalid(path, std::string("is ") + (found ? "part " + std::to_string(*found + 1) : "no part") + " of a model; expected part " + std::to_string(number + 1) +
                                 " of " + std::to_string(count) + " of " + first);
    }
    if (const auto its_count = u16(*header, "split.count"); its_count && *its_count != count) {
        return invalid(path, "is one of " + std::to_string(*its_count) + " parts of a model; expected one of the " + std::to_string(count) + " of " + first);
    }
    checked.alignment = std::min(checked.alignment, header->alignment);
    checked.tensors += header->tensors.size();
    return true;
}

} // namespace

Error bad_metadata(const std::string & path, const std::string & key, const std::string & found, const std::string & expected) {
    return {ErrorCode::model_invalid, path + ": metadata " + key + " is " + found + "; expected " + expected + advice, {{"path", path}, {"key", key}}};
}

Result<CheckedFile> check_model_file(const std::string & path, bool weights) {
    const auto header = read_part(path);
    if (!header) {
        return header.error();
    }
    CheckedFile checked{header->alignment, header->tensors.size()};
    const auto parts = other_parts(*header, path);
    if (!parts) {
        return parts.error();
    }
    if (text_of(header->metadata, "general.architecture").empty()) {
        const std::string type = text_of(header->metadata, "general.type");
        return Error{ErrorCode::model_invalid,
                     path + ": metadata general.architecture is missing" + (type.empty() ? "" : " (general.type is " + type + ")") + ", so this GGUF file is no language model; give a model's file",
                     {{"path", path}, {"key", std::string("general.architecture")}}};
    }
    if (const std::string type = text_of(header->metadata, "general.type"); type == "adapter" || type == "imatrix") {
        return Error{ErrorCode::model_invalid, path + ": metadata general.type is " + type + "; expected model: give the file of the model that it was made for",
                     {{"path", path}, {"key", std::string("general.type")}}};
    }
    for (size_t i = 0; i < parts->size(); ++i) {
        const auto count = static_cast<uint16_t>(parts->size() + 1);
        if (auto ok = check_part((*parts)[i], path, static_cast<uint16_t>(i + 1), count, checked); !ok) {
            return ok.error();
        }
    }
    if (weights && checked.tensors == 0) {
        return Error{ErrorCode::model_invalid, path + ": has no tensors" + (find_entry(header->metadata, "tokenizer.ggml.tokens") ? ", only a vocabulary" : "") + "; expected a model with its weights",
                     {{"path", path}}};
    }
    if (auto ok = check_vocabulary(*header, path); !ok) {
        return ok.error();
    }
    if (weights) {
        if (auto ok = check_sizes(*header, path); !ok) {
            return ok.error();
        }
    }
    return checked;
}

} // namespace ternion
