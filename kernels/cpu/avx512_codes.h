// Codes of 5 bits in 16-bit words, for the files that are compiled with AVX-512 VBMI2.
//
// A register of words holds 32 rows; seen as 32-bit lanes, rows 0 … 15 are in the low halves and 16 … 31 in the high ones.
#pragma once

#include "../formats/stq1_0.h"
#include "avx512_multiply.h"
#include "kernels.h"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace ternion::kernels {
namespace {

/// Code I of a chunk of sixteen in the low five bits of each word; what is above them is of other codes.
template <int I>
ALWAYS_INLINE __m512i index_of(const __m512i (&word)[5]) {
    constexpr int bit = 5 * I, w = bit / 16, shift = bit % 16;
    if constexpr (shift == 0) {
        return word[w];
    } else if constexpr (shift <= 11) {
        return _mm512_srli_epi16(word[w], shift);
    } else {
        return _mm512_shrdi_epi16(word[w], word[w + 1], shift);
    }
}

/// The word that code I needs first, or -1: words are loaded one by one, since five at once would not leave registers for sums.
template <int I>
constexpr int next_word() {
    constexpr int shift = 5 * I % 16;
    return shift == 0 ? 0 : shift > 11 ? 5 * I / 16 + 1 : -1;
}

/// The weights of SherryTile's codes plus one, a byte each.
struct SherryWeights {
    alignas(64) uint32_t of[32];
};

constexpr SherryWeights make_sherry_weights() {
    SherryWeights weights{};
    for (int code = 0; code < 32; ++code) {
        const uint32_t w = stq1_0_weights((code & 4) << 2 | (code & 24) >> 1 | (code & 3));
        for (int p = 0; p < 4; ++p) {
            weights.of[code] |= (((w >> (8 * p)) + 1u) & 3u) << (8 * p);
        }
    }
    return weights;
}

constexpr SherryWeights sherry_weights = make_sherry_weights();

/// Byte 4 i + p of the result of vpermb is byte 16 p + i: the four columns of a group side by side.
struct GroupOrder {
    alignas(64) uint8_t from[64];
};

constexpr GroupOrder make_group_order() {
    GroupOrder order{};
    for (uint8_t i = 0; i < 64; ++i) {
        order.from[i] = static_cast<uint8_t>(16 * (i % 4) + i / 4);
    }
    return order;
}

constexpr GroupOrder group_order = make_group_order();

} // namespace

// Of avx512_stq1_0_panel.cc.
void avx512_order_sherry(int8_t * codes);
void avx512_multiply_sherry(const uint8_t * strip, size_t n_groups, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]);

} // namespace ternion::kernels
