// AVX-512 with VNNI: 16 rows per register, four weights of a row per 32-bit lane.
//
// vpdpbusd multiplies unsigned by signed bytes and adds four products to a lane without saturating, so a weight is stored
// with an offset that makes it unsigned, and the accumulator starts with what the offset adds.
//
// One or two columns (decode): the four weights of a byte are masked out where they stand, not shifted down; each of the four
// planes has its own accumulator, which is worth 1, 4, 16 or 64 times its sum. A plane's product is at most 4 · 192 · 128, so
// 64 of them stay far inside 32 bits. That is one AND and one multiply for 64 weights, and eight accumulators hide the latency.
// More columns (prefill, several sessions): a shift and an AND per plane, shared by all columns.
#include "avx512_multiply.h"
#include "kernels.h"

#include <cmath>
#include <limits>

namespace ternion::kernels {
namespace {

template <int N>
void ternary_few(const TernaryTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    const __m512i mask[4] = {_mm512_set1_epi8(0x03), _mm512_set1_epi8(0x0c), _mm512_set1_epi8(0x30), _mm512_set1_epi8(static_cast<char>(0xc0))};
    __m512 low[N], high[N];
    UNROLLED for (int c = 0; c < N; ++c) {
        low[c] = high[c] = _mm512_setzero_ps();
    }
    const auto * activations = reinterpret_cast<const int32_t *>(panel.codes);
    for (size_t b = 0; b < n_blocks; ++b) {
        __m512i a[N][4], z[N][4];
        UNROLLED for (int c = 0; c < N; ++c) {
            a[c][0] = z[c][0] = _mm512_set1_epi32(panel.offsets[b * N + static_cast<size_t>(c)]);
            UNROLLED for (int p = 1; p < 4; ++p) {
                a[c][p] = z[c][p] = _mm512_setzero_si512();
            }
        }
        _Pragma("GCC unroll 4") for (size_t t = 0; t < 16; ++t, activations += 4 * N) {
            const Halves weights = load_codes(tiles[b].codes[t]);
            UNROLLED for (int p = 0; p < 4; ++p) {
                const __m512i w = _mm512_and_si512(weights.low, mask[p]);
                const __m512i v = _mm512_and_si512(weights.high, mask[p]);
                UNROLLED for (int c = 0; c < N; ++c) {
                    const __m512i x = _mm512_set1_epi32(activations[p * N + c]);
                    a[c][p] = multiply_add(a[c][p], w, x);
                    z[c][p] = multiply_add(z[c][p], v, x);
                }
            }
        }
        const FloatHalves scales = load_scales(tiles[b].scales);
        UNROLLED for (int c = 0; c < N; ++c) {
            const float scale = panel.scales[b * N + static_cast<size_t>(c)];
            low[c] = scaled(planes_together(a[c]), scales.low, scale, low[c]);
            high[c] = scaled(planes_together(z[c]), scales.high, scale, high[c]);
        }
    }
    UNROLLED for (int c = 0; c < N; ++c) {
        _mm512_storeu_ps(out[c], low[c]);
        _mm512_storeu_ps(out[c] + 16, high[c]);
    }
}

template <int N>
void ternary_many(const TernaryTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    const __m512i two_bits = _mm512_set1_epi8(3);
    __m512 low[N], high[N];
    UNROLLED for (int c = 0; c < N; ++c) {
        low[c] = high[c] = _mm512_setzero_ps();
    }
    const auto * activations = reinterpret_cast<const int32_t *>(panel.codes);
    for (size_t b = 0; b < n_blocks; ++b) {
        __m512i a[N], z[N];
        UNROLLED for (int c = 0; c < N; ++c) {
            a[c] = z[c] = _mm512_set1_epi32(panel.offsets[b * N + static_cast<size_t>(c)]);
        }
        for (size_t t = 0; t < 16; ++t, activations += 4 * N) {
            const Halves weights = load_codes(tiles[b].codes[t]);
            UNROLLED for (int p = 0; p < 4; ++p) {
                const __m512i w = _mm512_and_si512(p ? _mm512_srli_epi16(weights.low, static_cast<unsigned>(2 * p)) : weights.low, two_bits);
                const __m512i v = _mm512_and_si512(p ? _mm512_srli_epi16(weights.high, static_cast<unsigned>(2 * p)) : weights.high, two_bits);
                UNROLLED for (int c = 0; c < N; ++c) {
                    const __m512i x = _mm512_set1_epi32(activations[p * N + c]);
                    a[c] = multiply_add(a[c], w, x);
                    z[c] = multiply_add(z[c], v, x);
                }
            }
        }
        const FloatHalves scales = load_scales(tiles[b].scales);
        UNROLLED for (int c = 0; c < N; ++c) {
            const float scale = panel.scales[b * N + static_cast<size_t>(c)];
            low[c] = scaled(a[c], scales.low, scale, low[c]);
            high[c] = scaled(z[c], scales.high, scale, high[c]);
        }
    }
    UNROLLED for (int c = 0; c < N; ++c) {
        _mm512_storeu_ps(out[c], low[c]);
        _mm512_storeu_ps(out[c] + 16, high[c]);
    }
}

template <int N>
void byte_product(const ByteTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    __m512 low[N], high[N];
    UNROLLED for (int c = 0; c < N; ++c) {
        low[c] = high[c] = _mm512_setzero_ps();
    }
    const auto * activations = reinterpret_cast<const int32_t *>(panel.codes);
    for (size_t b = 0; b < n_blocks; ++b) {
        // A block is eight steps: with one column, two sums per half keep the multiplier busy.
        constexpr int sums = N == 1 ? 2 : 1;
        __m512i a[sums][N], z[sums][N];
        UNROLLED for (int c = 0; c < N; ++c) {
            a[0][c] = z[0][c] = _mm512_set1_epi32(panel.offsets[b * N + static_cast<size_t>(c)]);
            if constexpr (sums == 2) {
                a[1][c] = z[1][c] = _mm512_setzero_si512();
            }
        }
        UNROLLED for (size_t t = 0; t < 8; ++t, activations += N) {
            const Halves weights = load_codes(tiles[b].codes[t]);
            UNROLLED for (int c = 0; c < N; ++c) {
                const __m512i x = _mm512_set1_epi32(activations[c]);
                a[t % sums][c] = multiply_add(a[t % sums][c], weights.low, x);
                z[t % sums][c] = multiply_add(z[t % sums][c], weights.high, x);
            }
        }
        const FloatHalves scales = load_scales(tiles[b].scales);
        UNROLLED for (int c = 0; c < N; ++c) {
            const float scale = panel.scales[b * N + static_cast<size_t>(c)];
            const __m512i sum_a = sums == 2 ? _mm512_add_epi32(a[0][c], a[sums - 1][c]) : a[0][c];
            const __m512i sum_z = sums == 2 ? _mm512_add_epi32(z[0][c], z[sums - 1][c]) : z[0][c];
            low[c] = scaled(sum_a, scales.low, scale, low[c]);
            high[c] = scaled(sum_z, scales.high, scale, high[c]);
        }
    }
    UNROLLED for (int c = 0; c < N; ++c) {
        _mm512_storeu_ps(out[c], low[c]);
        _mm512_storeu_ps(out[c] + 16, high[c]);
    }
}

constexpr TernaryKernel ternary_by_columns[panel_columns] = {ternary_few<1>,  ternary_few<2>,  ternary_many<3>, ternary_many<4>,
                                                             ternary_many<5>, ternary_many<6>, ternary_many<7>, ternary_many<8>};
constexpr ByteKernel bytes_by_columns[panel_columns] = {byte_product<1>, byte_product<2>, byte_product<3>, byte_product<4>,
                                                        byte_product<5>, byte_product<6>, byte_product<7>, byte_product<8>};

void ternary(const TernaryTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    ternary_by_columns[panel.columns - 1](tiles, n_blocks, panel, out);
}

void bytes(const ByteTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    bytes_by_columns[panel.columns - 1](tiles, n_blocks, panel, out);
}

inline __m512 magnitude(__m512 v) {
    return _mm512_abs_ps(v);
}

// Codes of 16 numbers; what is added to `sum` lane by lane.
inline __m512i round16(__m512 values, __m512 factor, int8_t * codes, __m512i sum) {
    const __m512i rounded = _mm512_min_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(values, factor)), _mm512_set1_epi32(127));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(codes), _mm512_cvtepi32_epi8(rounded));
    return _mm512_add_epi32(sum, rounded);
}

template <int N> // registers of 16
void nothing(int8_t * codes, float & scale, int32_t & sum, bool finite) {
    for (int i = 0; i < N; ++i) {
        _mm_storeu_si128(reinterpret_cast<__m128i *>(codes) + i, _mm_setzero_si128());
    }
    scale = finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
    sum = 0;
}

template <int N>
bool load_finite(const float * values, __m512 (&v)[N], __m512 & most) {
    const __m512 limit = _mm512_set1_ps(std::numeric_limits<float>::max());
    most = _mm512_setzero_ps();
    __mmask16 finite = 0xffff;
    for (int i = 0; i < N; ++i) {
        v[i] = _mm512_loadu_ps(values + 16 * i);
        finite &= _mm512_cmp_ps_mask(magnitude(v[i]), limit, _CMP_LE_OQ); // false for a NaN
        most = _mm512_max_ps(most, magnitude(v[i]));
    }
    return finite == 0xffff;
}

void quantise256(const float * values, int8_t * codes, float & scale, int32_t & sum) {
    __m512 v[16], most;
    const bool finite = load_finite(values, v, most);
    const float largest = _mm512_reduce_max_ps(most);
    float signed_largest = 0.0f;
    for (int i = 0; finite && i < 16; ++i) { // the first of that magnitude decides on the sign
        const __mmask16 there = _mm512_cmp_ps_mask(magnitude(v[i]), _mm512_set1_ps(largest), _CMP_EQ_OQ);
        if (there) {
            signed_largest = values[16 * i + __builtin_ctz(there)];
            break;
        }
    }
    const float factor = -127.0f / signed_largest;
    if (!finite || largest == 0.0f || !std::isfinite(factor)) {
        nothing<16>(codes, scale, sum, finite);
        return;
    }
    __m512i total = _mm512_setzero_si512();
    for (int i = 0; i < 16; ++i) {
        total = round16(v[i], _mm512_set1_ps(factor), codes + 16 * i, total);
    }
    scale = 1.0f / factor;
    sum = _mm512_reduce_add_epi32(total);
}

void quantise32(const float * values, int8_t * codes, float & scale, int32_t & sum) {
    __m512 v[2], most;
    const bool finite = load_finite(values, v, most);
    const float step = _mm512_reduce_max_ps(most) / 127.0f;
    const float factor = step == 0.0f ? 0.0f : 1.0f / step;
    if (!finite || !std::isfinite(factor)) {
        nothing<2>(codes, scale, sum, finite);
        return;
    }
    __m512i total = round16(v[0], _mm512_set1_ps(factor), codes, _mm512_setzero_si512());
    total = round16(v[1], _mm512_set1_ps(factor), codes + 16, total);
    scale = _cvtsh_ss(_cvtss_sh(step, _MM_FROUND_TO_NEAREST_INT));
    sum = _mm512_reduce_add_epi32(total);
}

} // namespace

const Kernels avx512_vnni_kernels = {"avx512-vnni", ternary, bytes, quantise256, quantise32, &avx2_stq1_0, nullptr, avx512_six_bits};
const Kernels avx512_vbmi2_kernels = {"avx512-vbmi2", ternary, bytes, quantise256, quantise32, &avx512_vbmi2_stq1_0, &avx512_vbmi2_quints, avx512_six_bits};

} // namespace ternion::kernels
