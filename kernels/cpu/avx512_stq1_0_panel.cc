// STQ1_0 times several columns with AVX-512 VBMI2: a code is looked up in a table of 32 times four weights, which two registers
// hold, and multiplied as other weights are. That is one operation more for 64 weights than TQ2_0 takes, for all columns together.
#include "avx512_codes.h"

#include <cstring>

namespace ternion::kernels {
namespace {

// With few columns, several sums each hide the latency of the multiplication.
template <int N>
constexpr int sums = N == 1 ? 4 : N == 2 ? 2 : 1;

template <int N>
struct Sums {
    __m512i low[N][sums<N>];
    __m512i high[N][sums<N>];
};

template <int N, int I>
ALWAYS_INLINE void add_code(Sums<N> & sum, __m512i (&word)[5], const SherryTile & tile, size_t c, __m512i first, __m512i second, const int32_t * activations) {
    constexpr int next = next_word<I>();
    if constexpr (next >= 0) {
        word[next] = load(tile.words[c][next]);
    }
    const __m512i index = index_of<I>(word);
    const __m512i low = _mm512_permutex2var_epi32(first, index, second);
    const __m512i high = _mm512_permutex2var_epi32(first, _mm512_srli_epi32(index, 16), second);
    UNROLLED for (int n = 0; n < N; ++n) {
        const __m512i x = _mm512_set1_epi32(activations[I * N + n]);
        sum.low[n][I % sums<N>] = multiply_add(sum.low[n][I % sums<N>], low, x);
        sum.high[n][I % sums<N>] = multiply_add(sum.high[n][I % sums<N>], high, x);
    }
}

template <int N, int... I>
ALWAYS_INLINE void add_chunk(Sums<N> & sum, const SherryTile & tile, size_t c, __m512i first, __m512i second, const int32_t * activations, std::integer_sequence<int, I...>) {
    __m512i word[5];
    (add_code<N, I>(sum, word, tile, c, first, second, activations), ...);
}

template <int N>
ALWAYS_INLINE __m512i total(const __m512i (&sum)[N]) {
    __m512i all = sum[0];
    UNROLLED for (int i = 1; i < N; ++i) {
        all = _mm512_add_epi32(all, sum[i]);
    }
    return all;
}

// One block of one row group, added to `out`.
template <int N>
ALWAYS_INLINE void add_block(const SherryTile & tile, __m512i first, __m512i second, const int32_t * activations, const int32_t * offsets, const float * scales, float (*out)[tile_rows]) {
    Sums<N> sum;
    UNROLLED for (int n = 0; n < N; ++n) {
        UNROLLED for (int i = 0; i < sums<N>; ++i) {
            sum.low[n][i] = sum.high[n][i] = i == 0 ? _mm512_set1_epi32(offsets[n]) : _mm512_setzero_si512();
        }
    }
    for (size_t c = 0; c < 4; ++c, activations += 16 * N) {
        add_chunk<N>(sum, tile, c, first, second, activations, std::make_integer_sequence<int, 16>{});
    }
    const auto * at = reinterpret_cast<const __m256i *>(tile.scales);
    const __m512 low_scale = _mm512_cvtph_ps(_mm256_load_si256(at)), high_scale = _mm512_cvtph_ps(_mm256_load_si256(at + 1));
    UNROLLED for (int n = 0; n < N; ++n) {
        const __m512 scale = _mm512_set1_ps(scales[n]);
        float * const total_of = out[n];
        const __m512 low = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total(sum.low[n])), _mm512_mul_ps(low_scale, scale), _mm512_loadu_ps(total_of));
        const __m512 high = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total(sum.high[n])), _mm512_mul_ps(high_scale, scale), _mm512_loadu_ps(total_of + 16));
        _mm512_storeu_ps(total_of, low);
        _mm512_storeu_ps(total_of + 16, high);
    }
}

template <int N>
void multiply(const uint8_t * strip, size_t n_groups, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    const __m512i first = _mm512_load_si512(sherry_weights.of);
    const __m512i second = _mm512_load_si512(sherry_weights.of + 16);
    std::memset(out, 0, n_groups * N * sizeof(*out));
    const auto * activations = reinterpret_cast<const int32_t *>(panel.codes);
    const auto * tile = reinterpret_cast<const SherryTile *>(strip);
    for (size_t b = 0; b < n_blocks; ++b, activations += 64 * N) {
        for (size_t g = 0; g < n_groups; ++g, ++tile) {
            add_block<N>(*tile, first, second, activations, panel.offsets + b * N, panel.scales + b * N, out + g * N);
        }
    }
}

using Multiply = void (*)(const uint8_t *, size_t, size_t, const Panel &, float (*)[tile_rows]);
constexpr Multiply by_columns[panel_columns] = {multiply<1>, multiply<2>, multiply<3>, multiply<4>, multiply<5>, multiply<6>, multiply<7>, multiply<8>};

} // namespace

void avx512_multiply_sherry(const uint8_t * strip, size_t n_groups, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    by_columns[panel.columns - 1](strip, n_groups, n_blocks, panel, out);
}

void avx512_order_sherry(int8_t * codes) {
    const __m512i order = _mm512_load_si512(group_order.from);
    for (size_t c = 0; c < 4; ++c, codes += 64) {
        _mm512_storeu_si512(codes, _mm512_permutexvar_epi8(order, _mm512_loadu_si512(codes)));
    }
}

} // namespace ternion::kernels
