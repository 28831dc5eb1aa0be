// Q6_K with AVX-512 VNNI, which is what the heads of ternary models are often in: four operations put 64 codes together from their
// low and high bits, for all columns; a sum over 16 columns is multiplied with its factor as a whole number.
#include "avx512_multiply.h"
#include "kernels.h"

#include <cstring>

namespace ternion::kernels {
namespace {

// Codes of columns 4 P … 4 P + 3 of sixteen, from two registers of low halves and one of high bits.
template <int P>
ALWAYS_INLINE __m512i codes(__m512i low, __m512i high) {
    const __m512i four = P % 2 ? _mm512_srli_epi16(low, 4) : low;
    const __m512i two = P == 0 ? _mm512_slli_epi16(high, 4) : P == 1 ? _mm512_slli_epi16(high, 2) : P == 2 ? high : _mm512_srli_epi16(high, 2);
    // Bits 0 … 3 of the one, 4 and 5 of the other.
    const __m512i all = _mm512_ternarylogic_epi32(_mm512_set1_epi8(15), four, two, 0xca);
    return _mm512_and_si512(all, _mm512_set1_epi8(63));
}

// Half of a row group, 16 rows from `first` on.
template <int N>
ALWAYS_INLINE void half(const SixBitTile & tile, size_t first, const int32_t * activations, const int32_t * offsets, const float * scales, __m512 (&total)[N]) {
    __m512i sum[N];
    UNROLLED for (int n = 0; n < N; ++n) {
        sum[n] = _mm512_setzero_si512();
    }
    // Fetched in the order of memory, not of use: both halves of a group go through all of the tile.
    constexpr size_t step = sizeof(SixBitTile) / 32;
    const char * ahead = reinterpret_cast<const char *>(&tile) + first * step + prefetch_ahead;
    for (size_t j = 0; j < 16; ++j, activations += 4 * N, offsets += N, ahead += step) {
        UNROLLED for (size_t line = 0; line < 4; ++line) {
            _mm_prefetch(ahead + 64 * line, _MM_HINT_T0);
        }
        const __m512i high = _mm512_load_si512(tile.high[j][first]), low0 = _mm512_load_si512(tile.low[2 * j][first]), low1 = _mm512_load_si512(tile.low[2 * j + 1][first]);
        const __m512i weights[4] = {codes<0>(low0, high), codes<1>(low0, high), codes<2>(low1, high), codes<3>(low1, high)};
        const __m512i factor = _mm512_cvtepi8_epi32(_mm_load_si128(reinterpret_cast<const __m128i *>(tile.factors[j] + first)));
        UNROLLED for (int n = 0; n < N; ++n) {
            __m512i part = _mm512_set1_epi32(offsets[n]);
            UNROLLED for (int p = 0; p < 4; ++p) {
                part = multiply_add(part, weights[p], _mm512_set1_epi32(activations[p * N + n]));
            }
            sum[n] = _mm512_add_epi32(sum[n], _mm512_mullo_epi32(part, factor));
        }
    }
    const __m512 scale = _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i *>(tile.scales + first)));
    UNROLLED for (int n = 0; n < N; ++n) {
        total[n] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[n]), _mm512_mul_ps(scale, _mm512_set1_ps(scales[n])), total[n]);
    }
}

template <int N>
void product(const SixBitTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    __m512 low[N], high[N];
    UNROLLED for (int n = 0; n < N; ++n) {
        low[n] = high[n] = _mm512_setzero_ps();
    }
    for (size_t b = 0; b < n_blocks; ++b) {
        const auto * activations = reinterpret_cast<const int32_t *>(panel.codes) + b * 64 * N;
        half<N>(tiles[b], 0, activations, panel.offsets + b * 16 * N, panel.scales + b * N, low);
        half<N>(tiles[b], 16, activations, panel.offsets + b * 16 * N, panel.scales + b * N, high);
    }
    UNROLLED for (int n = 0; n < N; ++n) {
        _mm512_storeu_ps(out[n], low[n]);
        _mm512_storeu_ps(out[n] + 16, high[n]);
    }
}

constexpr SixBitKernel by_columns[panel_columns] = {product<1>, product<2>, product<3>, product<4>, product<5>, product<6>, product<7>, product<8>};

} // namespace

void avx512_six_bits(const SixBitTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    by_columns[panel.columns - 1](tiles, n_blocks, panel, out);
}

} // namespace ternion::kernels
