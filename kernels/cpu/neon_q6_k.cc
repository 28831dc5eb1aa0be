// Q6_K with NEON's dot product: nine operations put 64 codes together from their low and high bits, for all activations; a code is at
// most 63, the same number with a sign and without. What 16 columns sum up to is multiplied with the factors of the rows.
//
// Tested under emulation; how fast this is has not been measured.
#include "neon.h"

#include <cstring>

namespace ternion::kernels {
namespace {

constexpr int groups_of_16 = 16;

// Codes of columns 4 P … 4 P + 3 of sixteen, of four rows: two registers of low halves, one of high bits.
template <int P>
ALWAYS_INLINE inline int8x16_t codes(uint8x16_t low, uint8x16_t high) {
    uint8x16_t all;
    if constexpr (P == 0) {
        all = vsliq_n_u8(low, high, 4);
    } else if constexpr (P == 1) {
        all = vsriq_n_u8(vshlq_n_u8(high, 2), low, 4);
    } else if constexpr (P == 2) {
        all = vbslq_u8(vdupq_n_u8(15), low, high);
    } else {
        return vreinterpretq_s8_u8(vsriq_n_u8(vshrq_n_u8(high, 2), low, 4));
    }
    return vreinterpretq_s8_u8(vandq_u8(all, vdupq_n_u8(63)));
}

// The factors of Q times four rows.
template <int Q>
ALWAYS_INLINE inline void load_factors(const int8_t * from, int32x4_t (&factors)[Q]) {
    repeat<Q / 2>([&](auto i) ALWAYS_INLINE {
        const int16x8_t wide = vmovl_s8(vld1_s8(from + 8 * i));
        factors[2 * i] = vmovl_s16(vget_low_s16(wide));
        factors[2 * i + 1] = vmovl_high_s16(wide);
    });
}

// A block for N columns and quads_together<N> times four rows from `first` on.
template <int N>
ALWAYS_INLINE inline void add_block(const SixBitTile & tile, size_t block, const Panel & panel, int first, float (*out)[tile_rows]) {
    constexpr int Q = quads_together<N>;
    int32x4_t sum[Q][N];
    repeat<Q>([&](auto q) ALWAYS_INLINE {
        repeat<N>([&](auto c) ALWAYS_INLINE { sum[q][c] = vdupq_n_s32(0); });
    });
    const int8_t * activations = panel.codes + block * SixBitTile::columns * N;
    const int32_t * offsets = panel.offsets + block * groups_of_16 * N;
    for (int j = 0; j < groups_of_16; ++j, activations += 16 * N, offsets += N) {
        int8x16_t x[N]; // word N p + c: what product p takes from column c
        repeat<N>([&](auto i) ALWAYS_INLINE { x[i] = vld1q_s8(activations + 16 * i); });
        int32x4_t factors[Q];
        load_factors(tile.factors[j] + 4 * first, factors);
        repeat<Q>([&](auto q) ALWAYS_INLINE {
            const int quad = first + q;
            const uint8x16_t low[2] = {vld1q_u8(tile.low[2 * j][4 * quad]), vld1q_u8(tile.low[2 * j + 1][4 * quad])};
            const uint8x16_t high = vld1q_u8(tile.high[j][4 * quad]);
            const int8x16_t weights[4] = {codes<0>(low[0], high), codes<1>(low[0], high), codes<2>(low[1], high), codes<3>(low[1], high)};
            repeat<N>([&](auto c) ALWAYS_INLINE {
                int32x4_t part = vld1q_dup_s32(offsets + c);
                repeat<4>([&](auto p) ALWAYS_INLINE {
                    constexpr int word = N * p + c;
                    part = vdotq_laneq_s32(part, weights[p], x[word / 4], word % 4);
                });
                sum[q][c] = vmlaq_s32(sum[q][c], part, factors[q]);
            });
        });
    }
    repeat<Q>([&](auto q) ALWAYS_INLINE {
        const int quad = first + q;
        const float32x4_t scales = load_scales(tile.scales, quad);
        repeat<N>([&](auto c) ALWAYS_INLINE { add_scaled(sum[q][c], scales, panel.scales[block * N + c], out[c] + 4 * quad); });
    });
}

template <int N>
void product(const SixBitTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    std::memset(out, 0, N * sizeof(*out));
    for (size_t b = 0; b < n_blocks; ++b) {
        for (int first = 0; first < quads; first += quads_together<N>) {
            add_block<N>(tiles[b], b, panel, first, out);
        }
    }
}

constexpr SixBitKernel by_columns[panel_columns] = {product<1>, product<2>, product<3>, product<4>, product<5>, product<6>, product<7>, product<8>};

} // namespace

void neon_six_bits(const SixBitTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    by_columns[panel.columns - 1](tiles, n_blocks, panel, out);
}

} // namespace ternion::kernels
