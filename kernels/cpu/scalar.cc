// The reference: what the other kernels are tested against, and what runs where there is none.
#include "kernels.h"

#include "../formats/half.h"
#include "../formats/pack.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ternion::kernels {
namespace {

int32_t ternary_sum(const TernaryTile & tile, size_t row, const int8_t * codes, size_t columns) {
    int32_t sum = 0;
    for (size_t t = 0; t < 16; ++t) {
        for (size_t p = 0; p < 4; ++p) {
            for (size_t j = 0; j < 4; ++j) {
                const int weight = tile.codes[t][row][j] >> (2 * p) & 3;
                sum += weight * codes[(4 * t + p) * columns * 4 + j];
            }
        }
    }
    return sum;
}

int32_t byte_sum(const ByteTile & tile, size_t row, const int8_t * codes, size_t columns) {
    int32_t sum = 0;
    for (size_t t = 0; t < 8; ++t) {
        for (size_t j = 0; j < 4; ++j) {
            sum += tile.codes[t][row][j] * codes[t * columns * 4 + j];
        }
    }
    return sum;
}

template <typename Tile, typename Sum>
void product(const Tile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows], Sum sum) {
    for (size_t c = 0; c < panel.columns; ++c) {
        for (size_t row = 0; row < tile_rows; ++row) {
            float total = 0.0f;
            for (size_t b = 0; b < n_blocks; ++b) {
                const int8_t * codes = panel.codes + (b * Tile::columns / 4 * panel.columns + c) * 4;
                const int32_t exact = panel.offsets[b * panel.columns + c] + sum(tiles[b], row, codes, panel.columns);
                total += static_cast<float>(exact) * (half_to_float(tiles[b].scales[row]) * panel.scales[b * panel.columns + c]);
            }
            out[c][row] = total;
        }
    }
}

void ternary(const TernaryTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    product(tiles, n_blocks, panel, out, ternary_sum);
}

void bytes(const ByteTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    product(tiles, n_blocks, panel, out, byte_sum);
}

int32_t six_bit_sum(const SixBitTile & tile, size_t row, const int8_t * codes, const int32_t * offsets, size_t columns) {
    int32_t total = 0;
    for (size_t j = 0; j < 16; ++j) {
        int32_t sum = offsets[j * columns];
        for (size_t k = 16 * j; k < 16 * (j + 1); ++k) {
            const int low = tile.low[k / 8][row][k % 4] >> (k % 8 / 4 * 4) & 15;
            const int high = tile.high[j][row][k % 4] >> (k % 16 / 4 * 2) & 3;
            sum += (low | high << 4) * codes[k / 4 * columns * 4 + k % 4];
        }
        total += sum * tile.factors[j][row];
    }
    return total;
}

void six_bits(const SixBitTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    for (size_t c = 0; c < panel.columns; ++c) {
        for (size_t row = 0; row < tile_rows; ++row) {
            float total = 0.0f;
            for (size_t b = 0; b < n_blocks; ++b) {
                const int8_t * codes = panel.codes + (b * 64 * panel.columns + c) * 4;
                const int32_t exact = six_bit_sum(tiles[b], row, codes, panel.offsets + b * 16 * panel.columns + c, panel.columns);
                total += static_cast<float>(exact) * (half_to_float(tiles[b].scales[row]) * panel.scales[b * panel.columns + c]);
            }
            out[c][row] = total;
        }
    }
}

// False if there is a NaN or an infinity; else the value of the largest magnitude, the first of several.
bool largest(const float * values, size_t n, float & value) {
    value = 0.0f;
    for (size_t i = 0; i < n; ++i) {
        if (!std::isfinite(values[i])) {
            return false;
        }
        if (std::fabs(values[i]) > std::fabs(value)) {
            value = values[i];
        }
    }
    return true;
}

void quantise(const float * values, int8_t * codes, size_t n, float factor, int32_t & sum) {
    sum = 0;
    for (size_t i = 0; i < n; ++i) {
        codes[i] = static_cast<int8_t>(std::min(127.0f, std::nearbyint(values[i] * factor)));
        sum += codes[i];
    }
}

void nothing(int8_t * codes, size_t n, float & scale, int32_t & sum, bool finite) {
    std::fill_n(codes, n, int8_t{0});
    scale = finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
    sum = 0;
}

void quantise256(const float * values, int8_t * codes, float & scale, int32_t & sum) {
    float most = 0.0f;
    const bool finite = largest(values, 256, most);
    const float factor = -127.0f / most;
    if (!finite || most == 0.0f || !std::isfinite(factor)) {
        nothing(codes, 256, scale, sum, finite);
        return;
    }
    quantise(values, codes, 256, factor, sum);
    scale = 1.0f / factor;
}

void quantise32(const float * values, int8_t * codes, float & scale, int32_t & sum) {
    float most = 0.0f;
    const bool finite = largest(values, 32, most);
    const float step = std::fabs(most) / 127.0f;
    const float factor = step == 0.0f ? 0.0f : 1.0f / step;
    if (!finite || !std::isfinite(factor)) {
        nothing(codes, 32, scale, sum, finite);
        return;
    }
    quantise(values, codes, 32, factor, sum);
    scale = rounded_to_half(step);
}

void expand_nibbles(const uint8_t * tile, TernaryTile & out) {
    expand(Layout::nibbles, tile, out);
}

} // namespace

const CodedKernels scalar_stq1_0 = {Layout::nibbles, expand_nibbles, nullptr, nullptr, 0, nullptr, nullptr};

const Kernels scalar_kernels = {"scalar", ternary, bytes, quantise256, quantise32, &scalar_stq1_0, nullptr, six_bits};

} // namespace ternion::kernels
