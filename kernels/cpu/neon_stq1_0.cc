// STQ1_0 with NEON: tables of 16 sums, those of the codes without a sign, looked up byte by byte for 16 rows at a time.
//
// tbl knows tables of bytes, so the low and the high bytes of the sums are looked up apart, and apart they are summed: low bytes into
// 16 bits, where 64 · 255 fits; high bytes modulo 256, for they are put 8 bits up, and the whole fits into 16 bits, too: 64 groups of
// 3 · 128 are 24576.
//
// With a sign the sum is the negative, that is all bits flipped, plus one: the ones are added for a block at once, a sign each.
#include "neon.h"

#include "../formats/stq1_0.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

namespace ternion::kernels {
namespace {

constexpr int table_groups = 64;
constexpr size_t group_table = 32; // bytes: 16 low ones, 16 high ones

// The weights of the codes without a sign, as signed bytes.
constexpr auto slot_weights = [] {
    std::array<uint32_t, 16> weights{};
    for (int slot = 0; slot < 16; ++slot) {
        weights[static_cast<size_t>(slot)] = stq1_0_weights(slot);
    }
    return weights;
}();

void make_tables(const int8_t * codes, uint8_t * tables) {
    int8x16_t weights[4];
    for (int i = 0; i < 4; ++i) {
        weights[i] = vreinterpretq_s8_u32(vld1q_u32(slot_weights.data() + 4 * i));
    }
    for (int c = 0; c < 4; ++c, codes += 64) {
        const int8x16_t a0 = vld1q_s8(codes), a1 = vld1q_s8(codes + 16), a2 = vld1q_s8(codes + 32), a3 = vld1q_s8(codes + 48);
        const int8x16_t even[2] = {vzip1q_s8(a0, a2), vzip2q_s8(a0, a2)}, odd[2] = {vzip1q_s8(a1, a3), vzip2q_s8(a1, a3)};
        // The four activations of group 4 i + lane in a word.
        const int8x16_t groups[4] = {vzip1q_s8(even[0], odd[0]), vzip2q_s8(even[0], odd[0]), vzip1q_s8(even[1], odd[1]), vzip2q_s8(even[1], odd[1])};
        repeat<4>([&](auto i) ALWAYS_INLINE {
            repeat<4>([&](auto lane) ALWAYS_INLINE {
                int16x8_t sum[4]; // of which the even ones count
                repeat<4>([&](auto w) ALWAYS_INLINE { sum[w] = vreinterpretq_s16_s32(vdotq_laneq_s32(vdupq_n_s32(0), weights[w], groups[i], lane)); });
                const int8x16_t first = vreinterpretq_s8_s16(vuzp1q_s16(sum[0], sum[1]));
                const int8x16_t second = vreinterpretq_s8_s16(vuzp1q_s16(sum[2], sum[3]));
                vst1q_u8(tables, vreinterpretq_u8_s8(vuzp1q_s8(first, second)));
                vst1q_u8(tables + 16, vreinterpretq_u8_s8(vuzp2q_s8(first, second)));
                tables += group_table;
            });
        });
    }
}

// Sums of a block for G row groups.
template <int G>
struct Sums {
    uint16x8_t low[4 * G]; // of eight rows
    uint8x16_t high[2 * G];
};

// One group of columns for 16 rows: half `h` of the row groups.
template <int G>
ALWAYS_INLINE inline void add(Sums<G> & sums, int h, uint8x16_t slots, uint8x16_t negative, uint8x16_t low_table, uint8x16_t high_table) {
    const uint8x16_t low = veorq_u8(vqtbl1q_u8(low_table, slots), negative);
    sums.low[2 * h] = vaddw_u8(sums.low[2 * h], vget_low_u8(low));
    sums.low[2 * h + 1] = vaddw_high_u8(sums.low[2 * h + 1], low);
    sums.high[h] = vaddq_u8(sums.high[h], veorq_u8(vqtbl1q_u8(high_table, slots), negative));
}

// Eight groups of columns, those of one byte of the signs. A loop, and no constants for the bits: unrolled, GCC 12 spills.
template <int G>
ALWAYS_INLINE inline void add_groups(Sums<G> & sums, const uint8_t * nibbles, size_t group_bytes, const uint8x16_t (&signs)[2 * G], const uint8_t * tables) {
    uint8x16_t bit = vdupq_n_u8(1);
    _Pragma("GCC unroll 1") for (int j = 0; j < 4; ++j, nibbles += tile_rows, tables += 2 * group_table) {
        const uint8x16_t next = vaddq_u8(bit, bit);
        const uint8x16_t table[4] = {vld1q_u8(tables), vld1q_u8(tables + 16), vld1q_u8(tables + 32), vld1q_u8(tables + 48)};
        repeat<2 * G>([&](auto h) ALWAYS_INLINE {
            const uint8x16_t slots = vld1q_u8(nibbles + h / 2 * group_bytes + h % 2 * 16);
            add(sums, h, vandq_u8(slots, vdupq_n_u8(15)), vtstq_u8(signs[h], bit), table[0], table[1]);
            add(sums, h, vshrq_n_u8(slots, 4), vtstq_u8(signs[h], next), table[2], table[3]);
        });
        bit = vaddq_u8(next, next);
    }
}

// Sixteen groups of columns.
template <int G>
ALWAYS_INLINE inline void add_chunk(Sums<G> & sums, const uint8_t * tile, size_t group_bytes, int chunk, const uint8_t * tables) {
    uint8x16_t signs[2][2 * G]; // of groups 0 … 7, of groups 8 … 15
    const uint8_t * words = tile + offsetof(NibbleTile, signs) + sizeof(NibbleTile::signs[0]) * chunk;
    repeat<2 * G>([&](auto h) ALWAYS_INLINE {
        const uint8_t * at = words + h / 2 * group_bytes + h % 2 * 32;
        const uint8x16_t first = vld1q_u8(at), second = vld1q_u8(at + 16);
        signs[0][h] = vuzp1q_u8(first, second);
        signs[1][h] = vuzp2q_u8(first, second);
        sums.low[2 * h] = vpadalq_u8(sums.low[2 * h], vcntq_u8(first)); // a row's two bytes
        sums.low[2 * h + 1] = vpadalq_u8(sums.low[2 * h + 1], vcntq_u8(second));
    });
    const uint8_t * nibbles = tile + sizeof(NibbleTile::nibbles[0]) * chunk;
    add_groups(sums, nibbles, group_bytes, signs[0], tables);
    add_groups(sums, nibbles + 4 * tile_rows, group_bytes, signs[1], tables + 8 * group_table);
}

template <int G>
void look_up(const uint8_t * tiles, size_t block_bytes, size_t n_blocks, const uint8_t * tables, const float * scales, float (*out)[tile_rows]) {
    std::memset(out, 0, G * sizeof(*out));
    for (size_t b = 0; b < n_blocks; ++b, tiles += block_bytes, tables += table_groups * group_table) {
        Sums<G> sums;
        repeat<4 * G>([&](auto e) ALWAYS_INLINE { sums.low[e] = vdupq_n_u16(0); });
        repeat<2 * G>([&](auto h) ALWAYS_INLINE { sums.high[h] = vdupq_n_u8(0); });
        for (int c = 0; c < 4; ++c) {
            add_chunk(sums, tiles, sizeof(NibbleTile), c, tables + static_cast<size_t>(c) * 16 * group_table);
        }
        repeat<4 * G>([&](auto e) ALWAYS_INLINE { // eight rows
            const auto & weights = reinterpret_cast<const NibbleTile *>(tiles + static_cast<size_t>(e / 4) * sizeof(NibbleTile))->scales;
            const uint8x8_t high = e % 2 ? vget_high_u8(sums.high[e / 2]) : vget_low_u8(sums.high[e / 2]);
            const int16x8_t sum = vreinterpretq_s16_u16(vaddq_u16(sums.low[e], vshll_n_u8(high, 8)));
            constexpr int quad = 2 * (e % 4);
            float * totals = out[e / 4] + 4 * quad;
            add_scaled(vmovl_s16(vget_low_s16(sum)), load_scales(weights, quad), scales[b], totals);
            add_scaled(vmovl_high_s16(sum), load_scales(weights, quad + 1), scales[b], totals + 4);
        });
    }
}

// By twos: the sums of two row groups leave room for the signs and the tables.
void lookup(const uint8_t * strips, size_t n_groups, size_t n_blocks, const uint8_t * tables, const float * scales, float (*out)[tile_rows]) {
    for (size_t first = 0; first < n_groups; first += strip_groups(Layout::nibbles)) {
        const size_t n = std::min(strip_groups(Layout::nibbles), n_groups - first);
        const size_t block_bytes = n * sizeof(NibbleTile);
        for (size_t g = 0; g < n; g += 2) {
            const auto some = n - g == 1 ? look_up<1> : look_up<2>;
            some(strips + g * sizeof(NibbleTile), block_bytes, n_blocks, tables, scales, out + first + g);
        }
        strips += n_blocks * block_bytes;
    }
}

// Weight p of the codes without a sign, for each p.
constexpr auto weights_by_slot = [] {
    std::array<std::array<int8_t, 16>, 4> weights{};
    for (size_t p = 0; p < 4; ++p) {
        for (size_t slot = 0; slot < 16; ++slot) {
            weights[p][slot] = static_cast<int8_t>(slot_weights[slot] >> (8 * p));
        }
    }
    return weights;
}();

// Sixteen groups of columns for 16 rows. Group 4 n + j goes to bits 2 n and 2 n + 1 of byte j.
ALWAYS_INLINE inline void expand_chunk(const NibbleTile & tile, int chunk, int first_row, TernaryTile & out) {
    const auto * words = reinterpret_cast<const uint8_t *>(tile.signs[chunk] + first_row);
    const uint8x16_t first = vld1q_u8(words), second = vld1q_u8(words + 16);
    const uint8x16_t signs[2] = {vuzp1q_u8(first, second), vuzp2q_u8(first, second)};
    uint8x16_t bytes[4][4]; // [which weight of a group][j]
    repeat<16>([&](auto i) ALWAYS_INLINE {
        const uint8x16_t nibbles = vld1q_u8(tile.nibbles[chunk][i / 2] + first_row);
        uint8x16_t slots;
        if constexpr (i % 2) {
            slots = vshrq_n_u8(nibbles, 4);
        } else {
            slots = vandq_u8(nibbles, vdupq_n_u8(15));
        }
        // With a sign: all bits flipped, plus one; and one more, as tiles have it.
        const uint8x16_t negative = vtstq_u8(signs[i / 8], vdupq_n_u8(1 << i % 8));
        const uint8x16_t more = vsubq_u8(vdupq_n_u8(1), negative);
        repeat<4>([&](auto p) ALWAYS_INLINE {
            const uint8x16_t table = vreinterpretq_u8_s8(vld1q_s8(weights_by_slot[p].data()));
            const uint8x16_t weights = vaddq_u8(veorq_u8(vqtbl1q_u8(table, slots), negative), more);
            if constexpr (i < 4) {
                bytes[p][i] = weights;
            } else {
                bytes[p][i % 4] = vsliq_n_u8(bytes[p][i % 4], weights, 2 * (i / 4));
            }
        });
    });
    repeat<4>([&](auto p) ALWAYS_INLINE {
        const uint8x16x4_t rows = {{bytes[p][0], bytes[p][1], bytes[p][2], bytes[p][3]}};
        vst4q_u8(out.codes[4 * chunk + p][first_row], rows);
    });
}

void expand(const uint8_t * from, TernaryTile & out) {
    const auto & tile = *reinterpret_cast<const NibbleTile *>(from);
    for (int c = 0; c < 4; ++c) {
        expand_chunk(tile, c, 0, out);
        expand_chunk(tile, c, 16, out);
    }
    std::memcpy(out.scales, tile.scales, sizeof(out.scales));
}

} // namespace

const CodedKernels neon_stq1_0 = {Layout::nibbles, expand, nullptr, nullptr, table_groups * group_table, make_tables, lookup};

} // namespace ternion::kernels
