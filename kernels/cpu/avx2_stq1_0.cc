// STQ1_0 with AVX2: 32 rows per register, a code per byte; also for processors with AVX-512 that have no VBMI2.
//
// vpshufb looks up 16 entries of a byte, but a group's sum, at most 381 in magnitude, takes two. They are digits to the base 31,
// each with a sign of its own, so that the sign of a code applies to both and eight groups add up in bytes: 8 · 15 and 8 · 12.
// Only then they are brought together in 16 bits, where the sums of 64 groups fit. That is about five operations for 64
// weights. With the two bytes of a 16-bit number for digits every group would have to be widened, and it would be six.
#include "kernels.h"

#include "../formats/stq1_0.h"

#include <immintrin.h>

#include <cstring>

namespace ternion::kernels {
namespace {

#if defined(__GNUC__)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 16")
#define ROLLED _Pragma("GCC unroll 1")
#else
#define ALWAYS_INLINE inline
#define UNROLLED
#define ROLLED
#endif

constexpr size_t groups_per_block = 64;
constexpr size_t group_table_bytes = 32; // the low digits of 16 codes, then the high ones
constexpr size_t table_bytes = groups_per_block * group_table_bytes;
constexpr size_t prefetch_ahead = 4096; // in each of up to four row groups

constexpr int base = 31;
constexpr int reciprocal = 1057; // of the base, in units of 2^-15
constexpr int largest_sum = 3 * 128;

constexpr int high_digit(int sum) {
    return ((sum * reciprocal >> 14) + 1) >> 1; // what vpmulhrsw computes
}

constexpr bool digits_fit() {
    for (int sum = -largest_sum; sum <= largest_sum; ++sum) {
        const int high = high_digit(sum), low = sum - base * high;
        if (high < -15 || high > 15 || low < -15 || low > 15) { // eight of each in a byte
            return false;
        }
    }
    return true;
}
static_assert(digits_fit());

ALWAYS_INLINE __m256i load(const void * from) {
    return _mm256_load_si256(static_cast<const __m256i *>(from));
}

ALWAYS_INLINE __m256i load_twice(const uint8_t * from) {
    return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i *>(from)));
}

// 16 words of which each half of the register has eight.
ALWAYS_INLINE __m256i load_halves(const uint16_t * low, const uint16_t * high) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i *>(low))),
                                   _mm_load_si128(reinterpret_cast<const __m128i *>(high)), 1);
}

// The signs of groups 0 … 7 and 8 … 15 of 64 columns, a byte per row.
ALWAYS_INLINE void load_signs(const uint16_t (&signs)[tile_rows], __m256i (&of)[2]) {
    const __m256i a = load_halves(signs, signs + 16), b = load_halves(signs + 8, signs + 24);
    const __m256i byte = _mm256_set1_epi16(255);
    of[0] = _mm256_packus_epi16(_mm256_and_si256(a, byte), _mm256_and_si256(b, byte));
    of[1] = _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
}

// Keeps GCC 12 from adding in another order, for which registers do not suffice.
ALWAYS_INLINE __m256i in_order(__m256i value) {
#if defined(__GNUC__)
    asm("" : "+x"(value));
#endif
    return value;
}

// Digits of a column's sums over a group of weights, for 32 rows.
ALWAYS_INLINE void add_group(__m256i & low, __m256i & high, const uint8_t * table, __m256i codes, __m256i sign) {
    low = in_order(_mm256_add_epi8(low, _mm256_sign_epi8(_mm256_shuffle_epi8(load_twice(table), codes), sign)));
    high = in_order(_mm256_add_epi8(high, _mm256_sign_epi8(_mm256_shuffle_epi8(load_twice(table + 16), codes), sign)));
}

// Sums over a block, in 16 bits: rows 0 … 7 and 16 … 23, rows 8 … 15 and 24 … 31.
struct BlockSums {
    __m256i of[2];
};

// Eight groups of 32 rows. `signs`: a byte per row. vpsignb takes the sign from the highest bit, and zero for a zero: bit 0 is
// set, and shifted up with the others, wherever it is not looked at itself.
ALWAYS_INLINE void add_eight(BlockSums & sums, const uint8_t (*nibbles)[tile_rows], __m256i signs, const uint8_t * tables) {
    const __m256i low_bits = _mm256_set1_epi8(15), one = _mm256_set1_epi8(1);
    __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
    __m256i sign = _mm256_or_si256(signs, one);
    UNROLLED for (int j = 3; j >= 0; --j) {
        const __m256i pair = load(nibbles[j]);
        const uint8_t * table = tables + 2 * static_cast<size_t>(j) * group_table_bytes;
        add_group(low, high, table + group_table_bytes, _mm256_and_si256(_mm256_srli_epi16(pair, 4), low_bits), sign);
        sign = j > 0 ? _mm256_add_epi8(sign, sign) : _mm256_or_si256(_mm256_slli_epi16(signs, 7), one);
        add_group(low, high, table, _mm256_and_si256(pair, low_bits), sign);
        sign = _mm256_add_epi8(sign, sign);
    }
    const __m256i digits = _mm256_set1_epi16(base << 8 | 1);
    sums.of[0] = in_order(_mm256_add_epi16(sums.of[0], _mm256_maddubs_epi16(digits, _mm256_unpacklo_epi8(low, high))));
    sums.of[1] = in_order(_mm256_add_epi16(sums.of[1], _mm256_maddubs_epi16(digits, _mm256_unpackhi_epi8(low, high))));
}

ALWAYS_INLINE void add_scaled(float * out, __m128i sum, const uint16_t * weight_scales, __m256 activation_scale) {
    const __m256 weight_scale = _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i *>(weight_scales)));
    const __m256 value = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(sum));
    _mm256_storeu_ps(out, _mm256_fmadd_ps(value, _mm256_mul_ps(weight_scale, activation_scale), _mm256_loadu_ps(out)));
}

void add_block(const NibbleTile & tile, const uint8_t * tables, float scale, float (&out)[tile_rows]) {
    const auto prefetch = [](const void * at) { _mm_prefetch(static_cast<const char *>(at) + prefetch_ahead, _MM_HINT_T0); };
    BlockSums sums{{_mm256_setzero_si256(), _mm256_setzero_si256()}};
    ROLLED for (size_t c = 0; c < 4; ++c, tables += 16 * group_table_bytes) {
        UNROLLED for (size_t j = 0; j < 8; j += 2) {
            prefetch(tile.nibbles[c][j]);
        }
        prefetch(tile.signs[c]);
        __m256i signs[2];
        load_signs(tile.signs[c], signs);
        add_eight(sums, tile.nibbles[c], signs[0], tables);
        add_eight(sums, tile.nibbles[c] + 4, signs[1], tables + 8 * group_table_bytes);
    }
    prefetch(tile.scales);
    const __m256 activation_scale = _mm256_set1_ps(scale);
    UNROLLED for (size_t i = 0; i < 2; ++i) {
        const size_t row = 8 * i;
        add_scaled(out + row, _mm256_castsi256_si128(sums.of[i]), tile.scales + row, activation_scale);
        add_scaled(out + row + 16, _mm256_extracti128_si256(sums.of[i], 1), tile.scales + row + 16, activation_scale);
    }
}

// Block after block, so that all row groups find the tables in the cache.
void lookup(const uint8_t * strips, size_t n_groups, size_t n_blocks, const uint8_t * tables, const float * scales, float (*out)[tile_rows]) {
    const TileMap map{Layout::nibbles, n_groups, n_blocks};
    std::memset(out, 0, n_groups * sizeof(*out));
    for (size_t b = 0; b < n_blocks; ++b, tables += table_bytes) {
        for (size_t g = 0; g < n_groups; ++g) {
            add_block(*reinterpret_cast<const NibbleTile *>(strips + map.at(g, b)), tables, scales[b], out[g]);
        }
    }
}

// Rows of 16 bytes, in both halves, exchanged with columns.
ALWAYS_INLINE void transpose(__m256i (&m)[16]) {
    for (int round = 0; round < 4; ++round) {
        __m256i next[16];
        UNROLLED for (int i = 0; i < 8; ++i) {
            next[2 * i] = _mm256_unpacklo_epi8(m[i], m[i + 8]);
            next[2 * i + 1] = _mm256_unpackhi_epi8(m[i], m[i + 8]);
        }
        UNROLLED for (int i = 0; i < 16; ++i) {
            m[i] = next[i];
        }
    }
}

// Low digits in the lower half, high ones in the upper one.
ALWAYS_INLINE __m256i digits_of(__m256i sums) {
    const __m256i high = _mm256_mulhrs_epi16(sums, _mm256_set1_epi16(reciprocal));
    const __m256i low = _mm256_sub_epi16(sums, _mm256_mullo_epi16(high, _mm256_set1_epi16(base)));
    return _mm256_permute4x64_epi64(_mm256_packs_epi16(low, high), 0xd8);
}

// A lane is a group until the tables are complete: 16 groups at a time.
void make_tables(const int8_t * codes, uint8_t * tables) {
    for (size_t c = 0; c < 4; ++c, codes += 64, tables += 16 * group_table_bytes) {
        __m256i x[4], table[16];
        for (size_t p = 0; p < 4; ++p) {
            x[p] = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i *>(codes + 16 * p)));
        }
        UNROLLED for (size_t zero = 0; zero < 4; ++zero) { // the slot's number is zero << 2 | b1 << 1 | b0
            const __m256i s0 = x[zero == 0], s1 = x[zero < 2 ? 2 : 1], s2 = x[zero == 3 ? 2 : 3];
            const __m256i same = _mm256_add_epi16(s0, s1), other = _mm256_sub_epi16(s0, s1);
            table[4 * zero] = digits_of(_mm256_add_epi16(same, s2));
            table[4 * zero + 1] = digits_of(_mm256_add_epi16(other, s2));
            table[4 * zero + 2] = digits_of(_mm256_sub_epi16(same, s2));
            table[4 * zero + 3] = digits_of(_mm256_sub_epi16(other, s2));
        }
        transpose(table);
        for (size_t i = 0; i < 16; ++i) {
            _mm256_store_si256(reinterpret_cast<__m256i *>(tables + i * group_table_bytes), table[i]);
        }
    }
}

// Weight p of each slot, times 4^q: where the ternary tile has it.
struct Weights {
    alignas(16) int8_t of[4][4][16]; // [q][p][slot]
};

constexpr Weights make_weights() {
    Weights weights{};
    for (int q = 0; q < 4; ++q) {
        for (int p = 0; p < 4; ++p) {
            for (int slot = 0; slot < 16; ++slot) {
                weights.of[q][p][slot] = static_cast<int8_t>(static_cast<int8_t>(stq1_0_weights(slot) >> (8 * p) & 255u) * (1 << (2 * q)));
            }
        }
    }
    return weights;
}

constexpr Weights weights = make_weights();

// Byte j of a row comes from groups j, 4 + j, 8 + j, 12 + j of 64 columns.
ALWAYS_INLINE void expand_byte(const NibbleTile & tile, size_t c, size_t j, const __m256i (&signs)[2], __m256i (&plane)[4]) {
    const __m256i low_bits = _mm256_set1_epi8(15), one = _mm256_set1_epi8(1);
    for (auto & bytes : plane) {
        bytes = _mm256_set1_epi8(0x55); // every weight plus one
    }
    UNROLLED for (size_t q = 0; q < 4; ++q) {
        const size_t i = 4 * q + j;
        const __m256i pair = load(tile.nibbles[c][i / 2]);
        const __m256i slots = _mm256_and_si256(i % 2 ? _mm256_srli_epi16(pair, 4) : pair, low_bits);
        const __m256i sign = _mm256_or_si256(_mm256_slli_epi16(signs[i / 8], static_cast<int>(7 - i % 8)), one);
        UNROLLED for (size_t p = 0; p < 4; ++p) {
            const __m256i table = load_twice(reinterpret_cast<const uint8_t *>(weights.of[q][p]));
            plane[p] = _mm256_add_epi8(plane[p], _mm256_sign_epi8(_mm256_shuffle_epi8(table, slots), sign));
        }
    }
}

void expand(const uint8_t * from, TernaryTile & out) {
    const auto & tile = *reinterpret_cast<const NibbleTile *>(from);
    for (size_t c = 0; c < 4; ++c) {
        __m256i signs[2], byte[4][4];
        load_signs(tile.signs[c], signs);
        UNROLLED for (size_t j = 0; j < 4; ++j) {
            expand_byte(tile, c, j, signs, byte[j]);
        }
        for (size_t p = 0; p < 4; ++p) {
            // Interleaving works within 128-bit halves: `quad[i]` has rows 4 i … 4 i + 3 and those 16 further.
            const __m256i even = _mm256_unpacklo_epi8(byte[0][p], byte[1][p]), even_up = _mm256_unpackhi_epi8(byte[0][p], byte[1][p]);
            const __m256i odd = _mm256_unpacklo_epi8(byte[2][p], byte[3][p]), odd_up = _mm256_unpackhi_epi8(byte[2][p], byte[3][p]);
            const __m256i quad[4] = {_mm256_unpacklo_epi16(even, odd), _mm256_unpackhi_epi16(even, odd), _mm256_unpacklo_epi16(even_up, odd_up),
                                     _mm256_unpackhi_epi16(even_up, odd_up)};
            auto * at = reinterpret_cast<__m256i *>(out.codes[4 * c + p]);
            _mm256_store_si256(at, _mm256_permute2x128_si256(quad[0], quad[1], 0x20));
            _mm256_store_si256(at + 1, _mm256_permute2x128_si256(quad[2], quad[3], 0x20));
            _mm256_store_si256(at + 2, _mm256_permute2x128_si256(quad[0], quad[1], 0x31));
            _mm256_store_si256(at + 3, _mm256_permute2x128_si256(quad[2], quad[3], 0x31));
        }
    }
    std::memcpy(out.scales, tile.scales, sizeof(out.scales));
}

} // namespace

const CodedKernels avx2_stq1_0 = {Layout::nibbles, expand, nullptr, nullptr, table_bytes, make_tables, lookup};

} // namespace ternion::kernels
