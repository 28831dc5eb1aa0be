#include "gguf_verify.h"

#include "block_layout.h"
#include "gguf_file.h"

#include "ggml.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>

namespace ternion {
namespace {

constexpr size_t chunk_bytes = 8 << 20;

float weight_at(ggml_type type, const uint8_t * at) {
    if (type == GGML_TYPE_F32) {
        float value;
        std::memcpy(&value, at, sizeof(value));
        return value;
    }
    if (type == GGML_TYPE_BF16) {
        ggml_bf16_t value;
        std::memcpy(&value, at, sizeof(value));
        return ggml_bf16_to_fp32(value);
    }
    ggml_fp16_t value;
    std::memcpy(&value, at, sizeof(value));
    return ggml_fp16_to_fp32(value);
}

void check(ggml_type type, bool floating, const std::vector<uint8_t> & data, TensorHealth & health) {
    const size_t size = ggml_type_size(type);
    for (const uint8_t * block = data.data(); block + size <= data.data() + data.size(); block += size) {
        health.blocks++;
        if (floating) {
            health.not_finite += !std::isfinite(weight_at(type, block));
            continue;
        }
        float scales[4];
        const int n = block_scales(type, block, scales);
        health.not_finite += !std::all_of(scales, scales + n, [](float scale) { return std::isfinite(scale); });
        health.zero_scales += std::all_of(scales, scales + n, [](float scale) { return scale == 0.0f; });
    }
}

} // namespace

Result<std::vector<TensorHealth>> verify_gguf(const std::string & path, const std::function<void(double)> & progress, const std::atomic<bool> & cancel) {
    auto header = GgufFile::read(path);
    if (!header) {
        return header.error();
    }
    std::ifstream file(path, std::ios::binary);
    std::vector<TensorHealth> out;
    std::vector<uint8_t> chunk;
    uint64_t done = 0;
    for (const GgufTensor & tensor : header->tensors) {
        const ggml_type type = type_by_name(tensor.type);
        const bool floating = type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16;
        TensorHealth & health = out.emplace_back(TensorHealth{tensor.name, tensor.type});
        const std::vector<uint8_t> any(type == GGML_TYPE_COUNT ? 0 : ggml_type_size(type));
        float scales[4];
        health.checked = floating || (!any.empty() && block_scales(type, any.data(), scales) > 0);
        file.seekg(static_cast<std::streamoff>(header->data_offset + tensor.offset));
        for (uint64_t left = tensor.bytes; left > 0;) {
            if (cancel) {
                return Error{ErrorCode::aborted, "verifying was aborted"};
            }
            const size_t block = health.checked ? ggml_type_size(type) : 1;
            chunk.resize(std::min<uint64_t>(left, chunk_bytes / block * block));
            if (!file.read(reinterpret_cast<char *>(chunk.data()), static_cast<std::streamsize>(chunk.size()))) {
                return Error{ErrorCode::model_invalid, path + ": ends within the tensor " + tensor.name, {{"path", path}, {"tensor", tensor.name}}};
            }
            if (health.checked) {
                check(type, floating, chunk, health);
            }
            left -= chunk.size();
            done += chunk.size();
            if (progress && header->file_bytes > header->data_offset) {
                progress(std::min(1.0, static_cast<double>(done) / static_cast<double>(header->file_bytes - header->data_offset)));
            }
        }
    }
    return out;
}

} // namespace ternion
