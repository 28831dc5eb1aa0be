#include "stq1_0.h"

#include "ggml.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include <array>
#include <cmath>
#include <cstring>

namespace {

using ternion::kernels::stq1_0_code;
using ternion::kernels::stq1_0_weights;

constexpr int groups = 64;

using Block = ternion_stq1_0_block;
static_assert(sizeof(Block) == 42);

// The first of the four weights of group g; the others follow 16 apart.
constexpr int first_weight(int g) {
    return g / 16 * 64 + g % 16;
}

constexpr auto codes = [] {
    std::array<uint32_t, 32> all{};
    for (int code = 0; code < 32; ++code) {
        all[static_cast<size_t>(code)] = stq1_0_weights(code);
    }
    return all;
}();

void put_code(Block & block, int g, int zero, const float * x) {
    int sign[3];
    for (int lane = 0, next = 0; lane < 4; ++lane) {
        if (lane != zero) {
            sign[next++] = !(x[first_weight(g) + 16 * lane] < 0.0f);
        }
    }
    const int slot = zero << 2 | (sign[0] ^ sign[2]) << 1 | (sign[0] ^ sign[1]);
    block.slots[g / 2] = static_cast<uint8_t>(block.slots[g / 2] | slot << (4 * (g & 1)));
    block.signs[g / 8] = static_cast<uint8_t>(block.signs[g / 8] | !sign[0] << (g % 8));
}

// Keeping a weight of magnitude m costs (m - d)², leaving it out m²: the one that gains least by being kept, w · d · (2 m - d), is
// left out; of several, the smallest.
int lane_to_leave_out(const float * x, const float * importance, int g, double d) {
    int best = 0;
    double least = 0.0, smallest = 0.0;
    for (int lane = 0; lane < 4; ++lane) {
        const int at = first_weight(g) + 16 * lane;
        const double magnitude = std::fabs(static_cast<double>(x[at]));
        const double gain = (importance ? static_cast<double>(importance[at]) : 1.0) * (2.0 * magnitude - d);
        if (lane == 0 || gain < least || (gain == least && magnitude < smallest)) {
            best = lane, least = gain, smallest = magnitude;
        }
    }
    return best;
}

void quantise_block(const float * x, const float * importance, Block & block) {
    constexpr int most_rounds = 16; // it settles in three or four
    int zero[groups] = {};
    double d = 0.0; // in the first round the smallest weight of each group is left out
    for (int round = 0; round < most_rounds; ++round) {
        bool changed = round == 0;
        double sum = 0.0, weight = 0.0;
        for (int g = 0; g < groups; ++g) {
            const int lane = lane_to_leave_out(x, importance, g, d);
            changed = changed || lane != zero[g];
            zero[g] = lane;
            for (int other = 0; other < 4; ++other) {
                const int at = first_weight(g) + 16 * other;
                const double w = other == lane ? 0.0 : importance ? static_cast<double>(importance[at]) : 1.0;
                sum += w * std::fabs(static_cast<double>(x[at]));
                weight += w;
            }
        }
        if (!changed) {
            break;
        }
        d = weight > 0.0 ? sum / weight : 0.0;
    }
    std::memset(&block, 0, sizeof(block));
    block.scale = ggml_fp32_to_fp16(static_cast<float>(d)); // a NaN stays one
    for (int g = 0; g < groups; ++g) {
        put_code(block, g, zero[g], x);
    }
}

} // namespace

void ternion_stq1_0_to_float(const void * blocks, float * out, int64_t n) {
    const auto * block = static_cast<const Block *>(blocks);
    for (int64_t b = 0; b < n / TERNION_STQ1_0_WEIGHTS; ++b, ++block, out += TERNION_STQ1_0_WEIGHTS) {
        const float scale = ggml_fp16_to_fp32(block->scale);
        for (int g = 0; g < groups; ++g) {
            const uint32_t weights = codes[static_cast<size_t>(stq1_0_code(*block, g))];
            for (int lane = 0; lane < 4; ++lane) {
                out[first_weight(g) + 16 * lane] = scale * static_cast<float>(static_cast<int8_t>(weights >> (8 * lane)));
            }
        }
    }
}

void ternion_stq1_0_from_float(const float * weights, void * blocks, int64_t n) {
    ternion_stq1_0_quantize(weights, blocks, 1, n, nullptr);
}

size_t ternion_stq1_0_quantize(const float * weights, void * blocks, int64_t rows, int64_t columns, const float * importance) {
    auto * block = static_cast<Block *>(blocks);
    for (int64_t row = 0; row < rows; ++row) {
        for (int64_t k = 0; k < columns; k += TERNION_STQ1_0_WEIGHTS, ++block, weights += TERNION_STQ1_0_WEIGHTS) {
            quantise_block(weights, importance ? importance + k : nullptr, *block);
        }
    }
    return static_cast<size_t>(rows * (columns / TERNION_STQ1_0_WEIGHTS)) * sizeof(Block);
}

void ternion_stq1_0_dot_q8_K(int n, float * out, size_t, const void * blocks, size_t, const void * activations, size_t, int) {
    const auto * block = static_cast<const Block *>(blocks);
    const auto * other = static_cast<const block_q8_K *>(activations);
    float total = 0.0f;
    for (int b = 0; b < n / TERNION_STQ1_0_WEIGHTS; ++b) {
        int32_t sum = 0;
        for (int c = 0; c < 4; ++c) {
            uint32_t decoded[16];
            for (int i = 0; i < 16; ++i) {
                decoded[i] = codes[static_cast<size_t>(stq1_0_code(block[b], 16 * c + i))];
            }
            const auto * lanes = reinterpret_cast<const int8_t *>(decoded);
            const int8_t * x = other[b].qs + 64 * c;
            for (int i = 0; i < 16; ++i) {
                for (int lane = 0; lane < 4; ++lane) {
                    sum += lanes[4 * i + lane] * x[i + 16 * lane];
                }
            }
        }
        total += ggml_fp16_to_fp32(block[b].scale) * other[b].d * static_cast<float>(sum);
    }
    *out = total;
}
