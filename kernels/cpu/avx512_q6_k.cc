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

// `Halves` of a row group, of 16 rows each, from row `first` on.
template <int N, int Halves>
ALWAYS_INLINE void add_block(const SixBitTile & tile, size_t first, const int32_t * activations, const int32_t * offsets, const float * scales, __m512 (&total)[Halves][N]) {
    __m512i sum[Halves][N];
    UNROLLED for (int h = 0; h < Halves; ++h) {
        UNROLLED for (int n = 0; n < N; ++n) {
            sum[h][n] = _mm512_setzero_si512();
        }
    }
    // Fetched in the order of memory, not of use, and not as far ahead as other tiles: twice as far streams a tenth slower.
    constexpr size_t step = sizeof(SixBitTile) / 32 * Halves, ahead_bytes = 8192;
    const char * ahead = reinterpret_cast<const char *>(&tile) + first * sizeof(SixBitTile) / 32 + ahead_bytes;
    for (size_t j = 0; j < 16; ++j, activations += 4 * N, offsets += N, ahead += step) {
        UNROLLED for (size_t line = 0; line < (step + 63) / 64; ++line) {
            _mm_prefetch(ahead + 64 * line, _MM_HINT_T0);
        }
        UNROLLED for (int h = 0; h < Halves; ++h) {
            const size_t row = first + 16 * static_cast<size_t>(h);
            const __m512i high = _mm512_load_si512(tile.high[j][row]), low0 = _mm512_load_si512(tile.low[2 * j][row]), low1 = _mm512_load_si512(tile.low[2 * j + 1][row]);
            const __m512i weights[4] = {codes<0>(low0, high), codes<1>(low0, high), codes<2>(low1, high), codes<3>(low1, high)};
            const __m512i factor = _mm512_cvtepi8_epi32(_mm_load_si128(reinterpret_cast<const __m128i *>(tile.factors[j] + row)));
            UNROLLED for (int n = 0; n < N; ++n) {
                __m512i part = _mm512_set1_epi32(offsets[n]);
                UNROLLED for (int p = 0; p < 4; ++p) {
                    part = multiply_add(part, weights[p], _mm512_set1_epi32(activations[p * N + n]));
                }
                sum[h][n] = _mm512_add_epi32(sum[h][n], _mm512_mullo_epi32(part, factor));
            }
        }
    }
    UNROLLED for (int h = 0; h < Halves; ++h) {
        const __m512 scale = _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i *>(tile.scales + first + 16 * h)));
        UNROLLED for (int n = 0; n < N; ++n) {
            total[h][n] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[h][n]), _mm512_mul_ps(scale, _mm512_set1_ps(scales[n])), total[h][n]);
        }
    }
}

// Few columns leave registers for both halves at once, which reads memory in one go.
template <int N>
void product(const SixBitTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    constexpr int halves = N <= 4 ? 2 : 1;
    __m512 total[2 / halves][halves][N];
    for (auto & of_half : total) {
        for (auto & of_columns : of_half) {
            UNROLLED for (int n = 0; n < N; ++n) {
                of_columns[n] = _mm512_setzero_ps();
            }
        }
    }
    for (size_t b = 0; b < n_blocks; ++b) {
        const auto * activations = reinterpret_cast<const int32_t *>(panel.codes) + b * 64 * N;
        UNROLLED for (int i = 0; i < 2 / halves; ++i) {
            add_block<N, halves>(tiles[b], 16 * static_cast<size_t>(i), activations, panel.offsets + b * 16 * N, panel.scales + b * N, total[i]);
        }
    }
    UNROLLED for (int h = 0; h < 2; ++h) {
        UNROLLED for (int n = 0; n < N; ++n) {
            _mm512_storeu_ps(out[n] + 16 * h, total[h / halves][h % halves][n]);
        }
    }
}

constexpr SixBitKernel by_columns[panel_columns] = {product<1>, product<2>, product<3>, product<4>, product<5>, product<6>, product<7>, product<8>};

} // namespace

void avx512_six_bits(const SixBitTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    by_columns[panel.columns - 1](tiles, n_blocks, panel, out);
}

} // namespace ternion::kernels
