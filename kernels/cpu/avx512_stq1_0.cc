// STQ1_0 with AVX-512 VBMI and VBMI2: 32 rows per register, a code per 16-bit lane.
//
// vpermw looks up 32 entries of 16 bits by the low five bits of each lane, so a code needs no mask, only a shift, and one that lies
// across two words is had with a double shift. That is three operations for 128 weights, where a multiplication takes four. Sums of
// 64 groups fit into 16 bits: 64 · 3 · 128 = 24576. Four row groups share the load of a table.
//
// A table holds 32 sums; those with the sign set are the negatives of the others. One multiplication of bytes makes 16 of them from
// a group's four activations.
#include "avx512_codes.h"

#include <cstring>

namespace ternion::kernels {
namespace {

constexpr size_t groups_per_block = 64;
constexpr size_t table_bytes = groups_per_block * 64;
// The next block of the same strip: it is needed when all strips have had this one.
constexpr size_t to_next_block = strip_groups(Layout::sherry) * sizeof(SherryTile);

// The weights of the codes without a sign, as signed bytes: lane = zero << 2 | b1 << 1 | b0.
struct CodeBook {
    alignas(64) uint32_t weights[16];
    alignas(64) int32_t start[16]; // activations are multiplied with 128 added; this takes it away again
};

constexpr CodeBook make_code_book() {
    CodeBook book{};
    for (int slot = 0; slot < 16; ++slot) {
        const uint32_t weights = stq1_0_weights(slot);
        int32_t sum = 0;
        for (int p = 0; p < 4; ++p) {
            sum += static_cast<int8_t>((weights >> (8 * p)) & 255u);
        }
        book.weights[slot] = weights;
        book.start[slot] = -128 * sum;
    }
    return book;
}

constexpr CodeBook code_book = make_code_book();

void make_tables(const int8_t * codes, uint8_t * tables) {
    const __m512i order = _mm512_load_si512(group_order.from);
    const __m512i weights = _mm512_load_si512(code_book.weights);
    const __m512i start = _mm512_load_si512(code_book.start);
    alignas(64) int32_t groups[16];
    for (size_t c = 0; c < 4; ++c, codes += 64) {
        const __m512i raised = _mm512_xor_si512(_mm512_loadu_si512(codes), _mm512_set1_epi8(static_cast<char>(0x80)));
        _mm512_store_si512(groups, _mm512_permutexvar_epi8(order, raised));
        UNROLLED for (size_t i = 0; i < 16; ++i, tables += 64) {
            const __m512i plus = _mm512_dpbusd_epi32(start, _mm512_set1_epi32(groups[i]), weights);
            const __m512i minus = _mm512_sub_epi32(_mm512_setzero_si512(), plus);
            // Packing takes four sums of one, four of the other: index = zero << 3 | sign << 2 | b1 << 1 | b0, as tiles have it.
            _mm512_store_si512(tables, _mm512_packs_epi32(plus, minus));
        }
    }
}

// GCC would add up all lookups of a chunk as a tree, with more of them alive than there are registers.
ALWAYS_INLINE void in_this_order([[maybe_unused]] __m512i & sum) {
#if defined(__GNUC__)
    asm("" : "+v"(sum));
#endif
}

template <int N, int I>
ALWAYS_INLINE void add_code(__m512i (&sum)[N], __m512i (&word)[N][5], const SherryTile * const (&tile)[N], size_t c, const uint8_t * tables) {
    constexpr int next = next_word<I>();
    const __m512i table = _mm512_load_si512(tables + 64 * I);
    UNROLLED for (int g = 0; g < N; ++g) {
        if constexpr (next >= 0) {
            _mm_prefetch(reinterpret_cast<const char *>(tile[g]->words[c][next]) + to_next_block, _MM_HINT_T0);
            word[g][next] = _mm512_load_si512(tile[g]->words[c][next]);
        }
        sum[g] = _mm512_add_epi16(sum[g], _mm512_permutexvar_epi16(index_of<I>(word[g]), table));
        in_this_order(sum[g]);
    }
}

template <int N, int... I>
ALWAYS_INLINE void add_chunk(__m512i (&sum)[N], const SherryTile * const (&tile)[N], size_t c, const uint8_t * tables, std::integer_sequence<int, I...>) {
    __m512i word[N][5];
    (add_code<N, I>(sum, word, tile, c, tables), ...);
}

// One block of N row groups, added to `out`.
template <int N>
ALWAYS_INLINE void add_block(const uint8_t * tiles, const uint8_t * tables, float activation_scale, float (*out)[tile_rows]) {
    __m512i sum[N];
    const SherryTile * tile[N];
    UNROLLED for (int g = 0; g < N; ++g) {
        sum[g] = _mm512_setzero_si512();
        tile[g] = reinterpret_cast<const SherryTile *>(tiles) + g;
    }
    for (size_t c = 0; c < 4; ++c) {
        add_chunk<N>(sum, tile, c, tables + c * 16 * 64, std::make_integer_sequence<int, 16>{});
    }
    const __m512 scale = _mm512_set1_ps(activation_scale);
    UNROLLED for (int g = 0; g < N; ++g) {
        const auto * at = reinterpret_cast<const __m256i *>(tile[g]->scales);
        const __m512 first = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(sum[g], 16), 16));
        const __m512 second = _mm512_cvtepi32_ps(_mm512_srai_epi32(sum[g], 16));
        const __m512 low = _mm512_fmadd_ps(first, _mm512_mul_ps(_mm512_cvtph_ps(_mm256_load_si256(at)), scale), _mm512_loadu_ps(out[g]));
        const __m512 high = _mm512_fmadd_ps(second, _mm512_mul_ps(_mm512_cvtph_ps(_mm256_load_si256(at + 1)), scale), _mm512_loadu_ps(out[g] + 16));
        _mm512_storeu_ps(out[g], low);
        _mm512_storeu_ps(out[g] + 16, high);
    }
}

// Block by block through all strips, so that the block's tables stay in the first-level cache.
void lookup(const uint8_t * strips, size_t n_groups, size_t n_blocks, const uint8_t * tables, const float * scales, float (*out)[tile_rows]) {
    constexpr size_t together = strip_groups(Layout::sherry);
    std::memset(out, 0, n_groups * sizeof(*out));
    const size_t strip_bytes = together * n_blocks * sizeof(SherryTile);
    for (size_t b = 0; b < n_blocks; ++b, tables += table_bytes) {
        const uint8_t * strip = strips;
        size_t group = 0;
        for (; group + together <= n_groups; group += together, strip += strip_bytes) {
            add_block<together>(strip + b * together * sizeof(SherryTile), tables, scales[b], out + group);
        }
        switch (n_groups - group) {
            case 1: add_block<1>(strip + b * 1 * sizeof(SherryTile), tables, scales[b], out + group); break;
            case 2: add_block<2>(strip + b * 2 * sizeof(SherryTile), tables, scales[b], out + group); break;
            case 3: add_block<3>(strip + b * 3 * sizeof(SherryTile), tables, scales[b], out + group); break;
            default: break;
        }
    }
}

// Four registers of four bytes per lane, a 4 x 4 matrix in each lane, transposed: byte j of plane p is byte p of part j.
ALWAYS_INLINE void transpose_bytes(const __m512i (&part)[4], __m512i (&plane)[4]) {
    const __mmask64 odd_bytes = 0xaaaaaaaaaaaaaaaaull;
    const __mmask32 odd_words = 0xaaaaaaaau;
    const __m512i even01 = _mm512_mask_blend_epi8(odd_bytes, part[0], _mm512_slli_epi16(part[1], 8)); // bytes 0 and 2 of parts 0, 1
    const __m512i odd01 = _mm512_mask_blend_epi8(odd_bytes, _mm512_srli_epi16(part[0], 8), part[1]);
    const __m512i even23 = _mm512_mask_blend_epi8(odd_bytes, part[2], _mm512_slli_epi16(part[3], 8));
    const __m512i odd23 = _mm512_mask_blend_epi8(odd_bytes, _mm512_srli_epi16(part[2], 8), part[3]);
    plane[0] = _mm512_mask_blend_epi16(odd_words, even01, _mm512_slli_epi32(even23, 16));
    plane[1] = _mm512_mask_blend_epi16(odd_words, odd01, _mm512_slli_epi32(odd23, 16));
    plane[2] = _mm512_mask_blend_epi16(odd_words, _mm512_srli_epi32(even01, 16), even23);
    plane[3] = _mm512_mask_blend_epi16(odd_words, _mm512_srli_epi32(odd01, 16), odd23);
}

// Group i goes to bits 2 (i / 4) of byte i % 4.
template <int I>
ALWAYS_INLINE void expand_code(const __m512i (&word)[5], __m512i first, __m512i second, __m512i (&low)[4], __m512i (&high)[4]) {
    const __m512i index = index_of<I>(word);
    const __m512i l = _mm512_slli_epi32(_mm512_permutex2var_epi32(first, index, second), I / 4 * 2);
    const __m512i h = _mm512_slli_epi32(_mm512_permutex2var_epi32(first, _mm512_srli_epi32(index, 16), second), I / 4 * 2);
    low[I % 4] = I < 4 ? l : _mm512_or_si512(low[I % 4], l);
    high[I % 4] = I < 4 ? h : _mm512_or_si512(high[I % 4], h);
}

template <int... I>
ALWAYS_INLINE void expand_chunk(const __m512i (&word)[5], __m512i first, __m512i second, __m512i (&low)[4], __m512i (&high)[4], std::integer_sequence<int, I...>) {
    (expand_code<I>(word, first, second, low, high), ...);
}

void expand(const uint8_t * from, TernaryTile & out) {
    const auto & tile = *reinterpret_cast<const SherryTile *>(from);
    const __m512i first = _mm512_load_si512(sherry_weights.of);
    const __m512i second = _mm512_load_si512(sherry_weights.of + 16);
    for (size_t c = 0; c < 4; ++c) {
        __m512i word[5], low[4], high[4], plane[4];
        UNROLLED for (int w = 0; w < 5; ++w) {
            word[w] = load(tile.words[c][w]);
        }
        expand_chunk(word, first, second, low, high, std::make_integer_sequence<int, 16>{});
        transpose_bytes(low, plane);
        UNROLLED for (size_t p = 0; p < 4; ++p) {
            _mm512_store_si512(out.codes[4 * c + p], plane[p]);
        }
        transpose_bytes(high, plane);
        UNROLLED for (size_t p = 0; p < 4; ++p) {
            _mm512_store_si512(out.codes[4 * c + p][16], plane[p]);
        }
    }
    std::memcpy(out.scales, tile.scales, sizeof(out.scales));
}

} // namespace

const CodedKernels avx512_vbmi2_stq1_0 = {Layout::sherry, expand, avx512_order_sherry, avx512_multiply_sherry, table_bytes, make_tables, lookup};

} // namespace ternion::kernels
