#include "gguf_synth.h"

#include "backend.h"
#include "block_layout.h"
#include "gguf_file.h"
#include "partial_file.h"
#include "random_weights.h"

#include "kernels/formats/gguf_types.h"

#include "ggml.h"
#include "gguf.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>

namespace ternion {
namespace {

struct FreeGguf {
    void operator()(gguf_context * gguf) const { gguf_free(gguf); }
};
using Gguf = std::unique_ptr<gguf_context, FreeGguf>;

struct FreeGgml {
    void operator()(ggml_context * ggml) const { ggml_free(ggml); }
};

constexpr int32_t token_type_unused = 5; // llama.cpp's LLAMA_TOKEN_TYPE_UNUSED
constexpr size_t chunk_bytes = 4 << 20;

Error bad_tensor(const SynthTensor & tensor, const std::string & why) {
    return {ErrorCode::invalid_arg, "tensor " + tensor.name + ": " + why, {{"tensor", tensor.name}}};
}

// ggml ends the process over what is refused here.
Result<ggml_type> check_tensor(const SynthTensor & tensor) {
    const ggml_type type = type_by_name(tensor.type);
    if (type == GGML_TYPE_COUNT || !can_be_random(type)) {
        return bad_tensor(tensor, "no tensor type '" + tensor.type + "' that can be made here");
    }
    if (tensor.name.empty() || tensor.name.size() >= GGML_MAX_NAME) {
        return bad_tensor(tensor, "names have 1 to " + std::to_string(GGML_MAX_NAME - 1) + " bytes");
    }
    if (tensor.shape.empty() || tensor.shape.size() > GGML_MAX_DIMS) {
        return bad_tensor(tensor, "tensors have 1 to 4 dimensions");
    }
    double bytes = static_cast<double>(ggml_type_size(type)) / static_cast<double>(ggml_blck_size(type));
    for (const int64_t n : tensor.shape) {
        if (n <= 0) {
            return bad_tensor(tensor, "dimensions are at least 1; found " + std::to_string(n));
        }
        bytes *= static_cast<double>(n);
    }
    if (bytes > 0x1p50) {
        return bad_tensor(tensor, "more than a petabyte");
    }
    if (tensor.shape[0] % ggml_blck_size(type) != 0) {
        return bad_tensor(tensor, "rows of " + tensor.type + " are multiples of " + std::to_string(ggml_blck_size(type)) + "; found " +
                                      std::to_string(tensor.shape[0]));
    }
    if (!tensor.random && type != GGML_TYPE_F32) {
        return bad_tensor(tensor, "only f32 tensors can be constant; found " + tensor.type);
    }
    return type;
}

Result<bool> copy_tokenizer(const SynthOptions & options, gguf_context * out) {
    if (auto ok = check_gguf_file(options.tokenizer); !ok) {
        return ok.error();
    }
    const Gguf source(gguf_init_from_file(options.tokenizer.c_str(), {true, nullptr}));
    const int64_t tokens_id = source ? gguf_find_key(source.get(), "tokenizer.ggml.tokens") : -1;
    if (tokens_id < 0 || gguf_get_kv_type(source.get(), tokens_id) != GGUF_TYPE_ARRAY || gguf_get_arr_type(source.get(), tokens_id) != GGUF_TYPE_STRING) {
        return Error{ErrorCode::model_invalid, options.tokenizer + ": no tokenizer in it", {{"path", options.tokenizer}}};
    }
    gguf_set_kv(out, source.get());
    for (int64_t i = 0; i < gguf_get_n_kv(source.get()); ++i) {
        const std::string key = gguf_get_key(source.get(), i);
        if (!key.starts_with("tokenizer.")) {
            gguf_remove_key(out, key.c_str());
        }
    }
    const size_t n = gguf_get_arr_n(source.get(), tokens_id);
    const size_t wanted = options.vocabulary > 0 ? static_cast<size_t>(options.vocabulary) : n;
    if (wanted < n) {
        return Error{ErrorCode::invalid_arg,
                     options.tokenizer + " has " + std::to_string(n) + " tokens, more than the shape's vocabulary of " + std::to_string(wanted)};
    }
    std::vector<std::string> texts;
    for (size_t i = 0; i < wanted; ++i) {
        texts.push_back(i < n ? gguf_get_arr_str(source.get(), tokens_id, i) : "[UNUSED" + std::to_string(i) + "]");
    }
    std::vector<const char *> pointers;
    for (const std::string & text : texts) {
        pointers.push_back(text.c_str());
    }
    gguf_set_arr_str(out, "tokenizer.ggml.tokens", pointers.data(), wanted);
    const auto pad = [&](const char * key, gguf_type type, auto filler) {
        const int64_t id = gguf_find_key(source.get(), key);
        std::vector<decltype(filler)> values(wanted, filler);
        if (id >= 0 && gguf_get_kv_type(source.get(), id) == GGUF_TYPE_ARRAY && gguf_get_arr_type(source.get(), id) == type &&
            gguf_get_arr_n(source.get(), id) == n) {
            std::memcpy(values.data(), gguf_get_arr_data(source.get(), id), n * sizeof(filler));
            gguf_set_arr_data(out, key, type, values.data(), wanted);
        }
    };
    pad("tokenizer.ggml.token_type", GGUF_TYPE_INT32, token_type_unused);
    pad("tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, 0.0f);
    return true;
}

void set_value(gguf_context * out, const SynthValue & entry) {
    const char * key = entry.key.c_str();
    std::visit(
        [&](const auto & value) {
            using T = std::decay_t<decltype(value)>;
            if constexpr (std::is_same_v<T, bool>) {
                gguf_set_val_bool(out, key, value);
            } else if constexpr (std::is_same_v<T, int64_t>) {
                gguf_set_val_u32(out, key, static_cast<uint32_t>(value));
            } else if constexpr (std::is_same_v<T, double>) {
                gguf_set_val_f32(out, key, static_cast<float>(value));
            } else if constexpr (std::is_same_v<T, std::string>) {
                gguf_set_val_str(out, key, value.c_str());
            } else {
                const std::vector<int32_t> values(value.begin(), value.end());
                gguf_set_arr_data(out, key, GGUF_TYPE_INT32, values.data(), values.size());
            }
        },
        entry.value);
}

} // namespace

Result<uint64_t> synthesize(const SynthOptions & options, const std::function<void(double)> & progress, const std::atomic<bool> & cancel) {
    backend_init();
    std::vector<ggml_type> types;
    std::set<std::string> names;
    for (const SynthTensor & tensor : options.tensors) {
        auto type = check_tensor(tensor);
        if (!type) {
            return type.error();
        }
        if (!names.insert(tensor.name).second) {
            return bad_tensor(tensor, "is there twice");
        }
        types.push_back(*type);
    }

    const Gguf gguf(gguf_init_empty());
    if (!options.tokenizer.empty()) {
        if (auto ok = copy_tokenizer(options, gguf.get()); !ok) {
            return ok.error();
        }
    }
    for (const SynthValue & entry : options.metadata) {
        set_value(gguf.get(), entry);
    }
    if (std::find(types.begin(), types.end(), GGML_TYPE_STQ1_0) != types.end()) {
        gguf_set_val_str(gguf.get(), formats::stq1_0_key, formats::stq1_0_layout);
    }
    const std::unique_ptr<ggml_context, FreeGgml> ggml(ggml_init({(options.tensors.size() + 1) * ggml_tensor_overhead(), nullptr, true}));
    for (size_t i = 0; i < options.tensors.size(); ++i) {
        const SynthTensor & tensor = options.tensors[i];
        ggml_tensor * table = ggml_new_tensor(ggml.get(), types[i], static_cast<int>(tensor.shape.size()), tensor.shape.data());
        ggml_set_name(table, tensor.name.c_str());
        gguf_add_tensor(gguf.get(), table);
    }

    PartialFile file(options.path, PartialFile::Readers::umask);
    if (!file.get() || !gguf_write_to_file_ptr(gguf.get(), file.get(), true)) {
        return io_error(options.path);
    }
    const uint64_t data_start = gguf_get_meta_size(gguf.get());
    uint64_t data_bytes = 0;
    for (size_t i = 0; i < options.tensors.size(); ++i) {
        const auto id = static_cast<int64_t>(i);
        data_bytes = std::max<uint64_t>(data_bytes, GGML_PAD(gguf_get_tensor_offset(gguf.get(), id) + gguf_get_tensor_size(gguf.get(), id), gguf_get_alignment(gguf.get())));
    }
    if (options.header_only) {
        if (!file.extend(data_start + data_bytes) || !file.commit()) {
            return io_error(options.path);
        }
        return data_start + data_bytes;
    }

    std::vector<uint8_t> chunk;
    uint64_t written = 0;
    for (size_t i = 0; i < options.tensors.size(); ++i) {
        const SynthTensor & tensor = options.tensors[i];
        const size_t block = ggml_type_size(types[i]);
        RandomBits random(options.seed, tensor.name);
        uint64_t left = gguf_get_tensor_size(gguf.get(), static_cast<int64_t>(i));
        while (left > 0) {
            if (cancel) {
                return Error{ErrorCode::aborted, "writing was aborted"};
            }
            // Whole words of randomness, so that the bytes do not depend on the size of a chunk.
            const size_t n_blocks = left <= chunk_bytes ? static_cast<size_t>(left) / block : chunk_bytes / block / 8 * 8;
            chunk.resize(n_blocks * block);
            if (tensor.random) {
                random_weights(types[i], tensor.value, random, chunk.data(), n_blocks);
            } else {
                std::fill_n(reinterpret_cast<float *>(chunk.data()), n_blocks, static_cast<float>(tensor.value));
            }
            if (!file.write(chunk.data(), chunk.size())) {
                return io_error(options.path);
            }
            left -= chunk.size();
            written += chunk.size();
            if (progress) {
                progress(static_cast<double>(written) / static_cast<double>(data_bytes));
            }
        }
        const uint64_t padding = GGML_PAD(written, gguf_get_alignment(gguf.get())) - written;
        chunk.assign(padding, 0);
        if (!file.write(chunk.data(), chunk.size())) {
            return io_error(options.path);
        }
        written += padding;
    }
    if (!file.commit()) {
        return io_error(options.path);
    }
    return data_start + data_bytes;
}

} // namespace ternion
