#include "block_layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>

namespace ternion {
namespace {

// Offsets follow from the block structs of ggml-common.h.
constexpr BlockLayout layouts[] = {
    {GGML_TYPE_Q1_0, 1.0},
    {GGML_TYPE_Q2_0, 0.8165}, // of the three values that its quantiser uses
    {GGML_TYPE_Q4_0, 4.61},
    {GGML_TYPE_Q4_1, 4.61, 0, 2, -7.5},
    {GGML_TYPE_Q5_0, 9.233},
    {GGML_TYPE_Q5_1, 9.233, 0, 2, -15.5},
    {GGML_TYPE_Q8_0, 73.9},
    {GGML_TYPE_Q2_K, 13.89, 80, 82, 1.5},
    {GGML_TYPE_Q3_K, 43.43, 108},
    {GGML_TYPE_Q4_K, 259.0, 0, 2, 7.5},
    {GGML_TYPE_Q5_K, 528.8, 0, 2, 15.5},
    {GGML_TYPE_Q6_K, 1365.6, 208},
    {GGML_TYPE_IQ1_S, 7.19},
    {GGML_TYPE_IQ2_XXS, 53.2},
    {GGML_TYPE_IQ2_XS, 56.0},
    {GGML_TYPE_IQ2_S, 56.4},
    {GGML_TYPE_IQ3_XXS, 142.0},
    {GGML_TYPE_IQ3_S, 140.2},
    {GGML_TYPE_IQ4_NL, 67.2},
    {GGML_TYPE_IQ4_XS, 1247.0},
    {GGML_TYPE_TQ1_0, 0.8165, 52},
    {GGML_TYPE_TQ2_0, 0.8165, 64},
    {GGML_TYPE_STQ1_0, 0.8660, 40},
};

} // namespace

const BlockLayout * block_layout(ggml_type type) {
    const auto found = std::find_if(std::begin(layouts), std::end(layouts), [&](const BlockLayout & layout) { return layout.type == type; });
    return found == std::end(layouts) ? nullptr : found;
}

float ue4m3(uint8_t code) {
    if ((code & 0x7f) == 0x7f) {
        return std::numeric_limits<float>::quiet_NaN();
    }
    const int exponent = code >> 3 & 15;
    const float fraction = static_cast<float>(code & 7) / 8.0f;
    return exponent == 0 ? std::ldexp(fraction, -6) : std::ldexp(1.0f + fraction, exponent - 7);
}

int block_scales(ggml_type type, const uint8_t * block, float * scales) {
    const auto half_at = [block](int at) {
        ggml_fp16_t half;
        std::memcpy(&half, block + at, sizeof(half));
        return ggml_fp16_to_fp32(half);
    };
    if (type == GGML_TYPE_MXFP4) { // a power of two; 255 is NaN
        scales[0] = block[0] == 255 ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(1.0f, block[0] - 127);
        return 1;
    }
    if (type == GGML_TYPE_NVFP4) {
        std::transform(block, block + 4, scales, ue4m3);
        return 4;
    }
    if (type == GGML_TYPE_IQ1_M) { // a half whose nibbles are the top ones of the four words at the end
        ggml_fp16_t half = 0;
        for (int i = 0; i < 4; ++i) {
            half = static_cast<ggml_fp16_t>(half | (block[48 + 2 * i + 1] >> 4) << (4 * i));
        }
        scales[0] = ggml_fp16_to_fp32(half);
        return 1;
    }
    const BlockLayout * layout = block_layout(type);
    if (!layout) {
        return 0;
    }
    scales[0] = half_at(layout->scale_at);
    if (layout->min_at < 0) {
        return 1;
    }
    scales[1] = half_at(layout->min_at);
    return 2;
}

ggml_type type_by_name(const std::string & name) {
    for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
        const char * known = ggml_type_name(static_cast<ggml_type>(i));
        if (known && name == known) {
            return static_cast<ggml_type>(i);
        }
    }
    return GGML_TYPE_COUNT;
}

} // namespace ternion
