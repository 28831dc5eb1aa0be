#include "ternary_pack.h"

#include <cstring>

namespace ternion {
namespace {

constexpr int64_t block_weights = 256;

bool unpack_i2_s(const uint8_t * row, int64_t n, int8_t * out) {
    bool valid = true;
    for (int64_t i = 0; i < n; ++i) {
        const int64_t block = i / 128, in_block = i % 128;
        const int code = row[block * 32 + in_block % 32] >> (6 - 2 * (in_block / 32)) & 3;
        valid &= code != 3;
        out[i] = static_cast<int8_t>(code - 1);
    }
    return valid;
}

bool unpack_two_bit(const uint8_t * row, int64_t n, int8_t * out) {
    bool valid = true;
    for (int64_t i = 0; i < n; ++i) {
        const int code = row[i / 4] >> 2 * (i % 4) & 3;
        valid &= code != 3;
        out[i] = static_cast<int8_t>(code - 1);
    }
    return valid;
}

// Every code of five bits is a valid one.
void unpack_five_bit(const uint8_t * row, int64_t n, int8_t * out) {
    const int64_t n_bytes = n * 5 / 32;
    for (int64_t group = 0; group < n / 4; ++group) {
        const int64_t bit = 5 * group;
        const int low = row[bit / 8];
        const int high = bit / 8 + 1 < n_bytes ? row[bit / 8 + 1] : 0;
        const int code = (low | high << 8) >> bit % 8 & 31;
        const int zero = code >> 3;
        for (int lane = 0, sign = 0; lane < 4; ++lane) {
            out[4 * group + lane] = static_cast<int8_t>(lane == zero ? 0 : (code >> sign++ & 1) * 2 - 1);
        }
    }
}

bool unpack_base3(const uint8_t * row, int64_t n, int8_t * out) {
    bool valid = true;
    for (int64_t i = 0; i < n; i += 5) {
        int digits = row[i / 5];
        valid &= digits < 243;
        for (int64_t j = i; j < i + 5 && j < n; ++j) {
            out[j] = static_cast<int8_t>(digits % 3 - 1);
            digits /= 3;
        }
    }
    return valid;
}

void pack_tq2_0(const int8_t * weights, uint8_t * out) {
    for (int i = 0; i < 64; ++i) {
        const int8_t * first = weights + i / 32 * 128 + i % 32;
        out[i] = static_cast<uint8_t>((first[0] + 1) | (first[32] + 1) << 2 | (first[64] + 1) << 4 | (first[96] + 1) << 6);
    }
}

/// The byte from which digits come out by multiplying with 3, highest first: their number scaled to 256, rounded up.
uint8_t tq1_byte(const int8_t * first, int stride, int digits) {
    int number = 0;
    for (int i = 0; i < 5; ++i) {
        number = number * 3 + (i < digits ? first[i * stride] + 1 : 0);
    }
    return static_cast<uint8_t>((number * 256 + 242) / 243);
}

void pack_tq1_0(const int8_t * weights, uint8_t * out) {
    for (int i = 0; i < 32; ++i) {
        out[i] = tq1_byte(weights + i, 32, 5);
    }
    for (int i = 0; i < 16; ++i) {
        out[32 + i] = tq1_byte(weights + 160 + i, 16, 5);
    }
    for (int i = 0; i < 4; ++i) {
        out[48 + i] = tq1_byte(weights + 240 + i, 4, 4);
    }
}

} // namespace

size_t packed_row_bytes(Packing packing, int64_t n_weights) {
    switch (packing) {
        case Packing::i2_s:     return static_cast<size_t>(n_weights / 4);
        case Packing::two_bit:  return static_cast<size_t>((n_weights + 3) / 4);
        case Packing::five_bit: return static_cast<size_t>(n_weights * 5 / 32);
        case Packing::base3:    return static_cast<size_t>((n_weights + 19) / 20 * 4);
    }
    return 0;
}

bool unpack_row(Packing packing, const uint8_t * row, int64_t n_weights, int8_t * out) {
    switch (packing) {
        case Packing::i2_s:     return unpack_i2_s(row, n_weights, out);
        case Packing::two_bit:  return unpack_two_bit(row, n_weights, out);
        case Packing::five_bit: unpack_five_bit(row, n_weights, out); return true;
        case Packing::base3:    return unpack_base3(row, n_weights, out);
    }
    return false;
}

void pack_blocks(ggml_type type, const int8_t * weights, int64_t n_weights, ggml_fp16_t d, uint8_t * out) {
    const size_t size = ggml_type_size(type);
    for (int64_t i = 0; i < n_weights; i += block_weights, out += size) {
        if (type == GGML_TYPE_TQ2_0) {
            pack_tq2_0(weights + i, out);
        } else {
            pack_tq1_0(weights + i, out);
        }
        std::memcpy(out + size - sizeof(d), &d, sizeof(d)); // both have it at their end
    }
}

} // namespace ternion
