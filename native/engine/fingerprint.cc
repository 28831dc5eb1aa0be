#include "fingerprint.h"

#include "gguf_file.h"

#include "llama.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <vector>

namespace ternion {
namespace {

constexpr size_t sample_bytes = 256;

// The product's two halves, folded: every bit of it depends on all bits of both factors.
uint64_t folded_product(uint64_t a, uint64_t b) {
#ifdef __SIZEOF_INT128__
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
#else
    const uint64_t a0 = a & 0xffffffff, a1 = a >> 32, b0 = b & 0xffffffff, b1 = b >> 32;
    const uint64_t middle = a1 * b0 + (a0 * b0 >> 32), other = a0 * b1 + (middle & 0xffffffff);
    return (a * b) ^ (a1 * b1 + (middle >> 32) + (other >> 32));
#endif
}

bool add_file(Hash128 & hash, const std::string & path, const GgufFile & header) {
    std::ifstream file(path, std::ios::binary);
    std::vector<char> buffer(header.data_offset);
    file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    hash.add(buffer.data(), static_cast<size_t>(file.gcount()));
    hash.add(header.file_bytes);
    buffer.resize(sample_bytes);
    for (const GgufTensor & tensor : header.tensors) {
        const uint64_t n = std::min<uint64_t>(sample_bytes, tensor.bytes);
        for (const uint64_t at : {uint64_t{0}, (tensor.bytes - n) / 2, tensor.bytes - n}) {
            file.clear();
            file.seekg(static_cast<std::streamoff>(header.data_offset + tensor.offset + at));
            file.read(buffer.data(), static_cast<std::streamsize>(n));
            hash.add(buffer.data(), static_cast<size_t>(file.gcount()));
        }
    }
    return !file.bad();
}

/// All files of a model whose header says that it is one of several.
std::vector<std::string> parts_of(const std::string & path, const GgufFile & header) {
    int64_t count = 1;
    for (const GgufEntry & entry : header.metadata) {
        const int64_t * value = entry.key == "split.count" && !entry.values.empty() ? std::get_if<int64_t>(&entry.values[0].value) : nullptr;
        count = value ? *value : count;
    }
    char prefix[4096], part[4096];
    if (count < 2 || count > 9999 || llama_split_prefix(prefix, sizeof(prefix), path.c_str(), 0, static_cast<int32_t>(count)) <= 0) {
        return {path};
    }
    std::vector<std::string> paths;
    for (int32_t i = 0; i < count; ++i) {
        llama_split_path(part, sizeof(part), prefix, i, static_cast<int32_t>(count));
        paths.emplace_back(part);
    }
    return paths;
}

} // namespace

void Hash128::mix(uint64_t a, uint64_t b) {
    low_ = folded_product(low_ ^ a, 0xa0761d6478bd642fULL ^ b);
    high_ = folded_product(high_ ^ b ^ low_, 0xe7037ed1a0b428dbULL ^ a);
}

void Hash128::add(const void * data, size_t bytes) {
    const auto * at = static_cast<const uint8_t *>(data);
    length_ += bytes;
    uint64_t pair[2];
    for (; bytes >= sizeof(pair); bytes -= sizeof(pair), at += sizeof(pair)) {
        std::memcpy(pair, at, sizeof(pair));
        mix(pair[0], pair[1]);
    }
    if (bytes > 0) {
        pair[0] = pair[1] = 0;
        std::memcpy(pair, at, bytes);
        mix(pair[0], pair[1] ^ (uint64_t{bytes} << 56));
    }
}

std::array<uint64_t, 2> Hash128::value() const {
    Hash128 last = *this;
    last.mix(length_, ~length_);
    last.mix(last.high_, last.low_);
    return {last.low_, last.high_};
}

Result<Fingerprint> fingerprint(const std::string & path) {
    auto first = GgufFile::read(path);
    if (!first) {
        return first.error();
    }
    Hash128 hash;
    for (const std::string & part : parts_of(path, *first)) {
        auto header = part == path ? Result<GgufFile>(*first) : GgufFile::read(part);
        if (!header) {
            return header.error();
        }
        if (!add_file(hash, part, *header)) {
            return Error{ErrorCode::io, part + ": cannot be read", {{"path", part}}};
        }
    }
    return hash.value();
}

std::string to_text(const Fingerprint & fingerprint) {
    std::string text;
    for (const uint64_t word : fingerprint) {
        for (int shift = 60; shift >= 0; shift -= 4) {
            text += "0123456789abcdef"[word >> shift & 15];
        }
    }
    return text;
}

} // namespace ternion
