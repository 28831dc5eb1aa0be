#include "random_weights.h"

#include "block_layout.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

namespace ternion {
namespace {

void put_half(uint8_t * at, double value) {
    const ggml_fp16_t half = ggml_fp32_to_fp16(static_cast<float>(value));
    std::memcpy(at, &half, sizeof(half));
}

/// The bytes that stand for `digits` ternary digits, by the number they spell; a random one is a random number.
std::array<uint8_t, 243> tq1_bytes(int digits) {
    // A digit is read by multiplying with 3 and taking what overflows the byte, so the number is scaled to 256 and
    // rounded up; where fewer than five digits are used, they are the first ones.
    std::array<uint8_t, 243> bytes{};
    const int count = digits == 5 ? 243 : 81;
    for (int i = 0; i < 243; ++i) {
        const int number = (i % count) * (digits == 5 ? 1 : 3);
        bytes[static_cast<size_t>(i)] = static_cast<uint8_t>((number * 256 + 242) / 243);
    }
    return bytes;
}

std::array<uint8_t, 81> tq2_bytes() {
    std::array<uint8_t, 81> bytes{};
    for (int i = 0; i < 81; ++i) {
        bytes[static_cast<size_t>(i)] = static_cast<uint8_t>(i % 3 | i / 3 % 3 << 2 | i / 9 % 3 << 4 | i / 27 << 6);
    }
    return bytes;
}

// Random bytes become random ternary digits: each is mapped to one of the valid bytes, evenly to within 1 in 256.
void make_ternary(ggml_type type, uint8_t * block) {
    static const auto five = tq1_bytes(5), four = tq1_bytes(4);
    static const auto two_bits = tq2_bytes();
    if (type == GGML_TYPE_TQ2_0 || type == GGML_TYPE_Q2_0) {
        const int first = type == GGML_TYPE_Q2_0 ? 2 : 0; // behind the scale
        const int n = type == GGML_TYPE_Q2_0 ? 16 : 64;
        for (int i = first; i < first + n; ++i) {
            block[i] = two_bits[block[i] * 81u >> 8];
        }
    } else {
        for (int i = 0; i < 52; ++i) {
            block[i] = (i < 48 ? five : four)[block[i] * 243u >> 8];
        }
    }
}

/// Uniform in [-1, 1) with 24 bits, exactly.
float uniform(RandomBits & random) {
    const auto bits = static_cast<int32_t>(random.next() >> 40);
    return static_cast<float>(bits - (1 << 23)) * 0x1p-23f;
}

void random_floats(ggml_type type, double deviation, RandomBits & random, uint8_t * out, size_t n) {
    const float reach = static_cast<float>(deviation * std::sqrt(3.0)); // a uniform variable's deviation is reach / sqrt(3)
    for (size_t i = 0; i < n; ++i) {
        const float value = uniform(random) * reach;
        if (type == GGML_TYPE_F32) {
            std::memcpy(out + i * sizeof(value), &value, sizeof(value));
        } else if (type == GGML_TYPE_F16) {
            put_half(out + i * sizeof(ggml_fp16_t), static_cast<double>(value));
        } else {
            const ggml_bf16_t half = ggml_fp32_to_bf16(value);
            std::memcpy(out + i * sizeof(half), &half, sizeof(half));
        }
    }
}

// The scale is a power of two in a byte, with a bias of 127; the values are 4-bit floats.
void mxfp4_scale(double deviation, uint8_t * block) {
    constexpr double unit_deviation = 2.288;
    const double exponent = std::clamp(std::round(std::log2(deviation / unit_deviation)) + 127.0, 1.0, 254.0);
    block[0] = static_cast<uint8_t>(exponent);
}

// Four scales, 8-bit floats that are coarse where weights usually are: each is one of the two next to the wanted one, as
// often as makes their mean right. `block` holds random bits, which decide.
void nvfp4_scales(double deviation, uint8_t * block) {
    constexpr double unit_deviation = 2.926;
    constexpr uint8_t largest = 126;
    const auto wanted = static_cast<float>(deviation / unit_deviation);
    uint8_t below = 0;
    while (below + 1 < largest && ue4m3(static_cast<uint8_t>(below + 1)) <= wanted) {
        below++;
    }
    const float low = ue4m3(below), high = ue4m3(static_cast<uint8_t>(below + 1));
    const float part = std::clamp((wanted - low) / (high - low), 0.0f, 1.0f);
    for (int i = 0; i < 4; ++i) {
        block[i] = static_cast<uint8_t>(below + (static_cast<float>(block[i]) < 256.0f * part ? 1 : 0));
    }
}

// The scale's four nibbles are the top ones of four 16-bit words at the end.
void iq1_m_scale(double deviation, uint8_t * block) {
    constexpr double unit_deviation = 7.22;
    const ggml_fp16_t half = ggml_fp32_to_fp16(static_cast<float>(deviation / unit_deviation));
    for (int i = 0; i < 4; ++i) {
        uint8_t & high = block[48 + 2 * i + 1];
        high = static_cast<uint8_t>((high & 0x0f) | (half >> (4 * i) & 0xf) << 4);
    }
}

} // namespace

RandomBits::RandomBits(uint64_t seed, std::string_view name) : state_(seed) {
    for (const char c : name) { // FNV-1a over the seed
        state_ = (state_ ^ static_cast<uint8_t>(c)) * 0x100000001b3ULL;
    }
}

uint64_t RandomBits::next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

void RandomBits::fill(uint8_t * out, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 8) {
        const uint64_t bits = next();
        for (size_t j = 0; j < 8 && i + j < bytes; ++j) { // little-endian on every machine
            out[i + j] = static_cast<uint8_t>(bits >> (8 * j));
        }
    }
}

bool can_be_random(ggml_type type) {
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16 || type == GGML_TYPE_MXFP4 || type == GGML_TYPE_NVFP4 ||
           type == GGML_TYPE_IQ1_M || block_layout(type) != nullptr;
}

void random_weights(ggml_type type, double deviation, RandomBits & random, uint8_t * out, size_t n_blocks) {
    if (type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16) {
        random_floats(type, deviation, random, out, n_blocks);
        return;
    }
    const size_t size = ggml_type_size(type);
    const BlockLayout * layout = block_layout(type);
    random.fill(out, n_blocks * size);
    for (uint8_t * block = out; block < out + n_blocks * size; block += size) {
        if (type == GGML_TYPE_MXFP4) {
            mxfp4_scale(deviation, block);
        } else if (type == GGML_TYPE_NVFP4) {
            nvfp4_scales(deviation, block);
        } else if (type == GGML_TYPE_IQ1_M) {
            iq1_m_scale(deviation, block);
        } else {
            const double scale = deviation / layout->unit_deviation;
            if (type == GGML_TYPE_TQ1_0 || type == GGML_TYPE_TQ2_0 || type == GGML_TYPE_Q2_0) {
                make_ternary(type, block);
            }
            put_half(block + layout->scale_at, scale);
            if (layout->min_at >= 0) {
                put_half(block + layout->min_at, scale * layout->min_factor);
            }
        }
    }
}

} // namespace ternion
