// QuintTile with AVX-512 VBMI: 64 bytes of five weights each are decoded by two lookups for four of them and one for the fifth.
//
// vpermb looks at the low six bits of a byte. Those are the answer for four weights while the fifth stands in the other two; codes from
// 192 on, a fifth of all, are looked up again in tables of their own. So decoding takes five operations for 320 weights, and
// the result is multiplied as in avx512.cc: the fifth weight stands at bits 6 and 7, as the fourth does.
#include "../formats/quints.h"
#include "avx512_multiply.h"
#include "kernels.h"

#include <cstring>
#include <utility>

namespace ternion::kernels {
namespace {

struct Tables {
    alignas(64) uint8_t below[64];  // four weights of codes below 192, two bits each
    alignas(64) uint8_t beyond[64]; // of the others
    alignas(64) uint8_t fifth[64];  // of the others, at bits 6 and 7
};

constexpr uint8_t four_of(const QuintWeights & w) {
    return static_cast<uint8_t>(w.plus_one[0] | w.plus_one[1] << 2 | w.plus_one[2] << 4 | w.plus_one[3] << 6);
}

constexpr Tables make_tables() {
    Tables tables{};
    for (int i = 0; i < 64; ++i) {
        tables.below[i] = four_of(quint_weights(i));
        if (i < 51) {
            tables.beyond[i] = four_of(quint_weights(192 + i));
            tables.fifth[i] = static_cast<uint8_t>(quint_weights(192 + i).plus_one[4] << 6);
        }
    }
    return tables;
}

constexpr Tables tables = make_tables();

struct Decoder {
    __m512i below = _mm512_load_si512(tables.below);
    __m512i beyond = _mm512_load_si512(tables.beyond);
    __m512i fifth_beyond = _mm512_load_si512(tables.fifth);
    __m512i first_beyond = _mm512_set1_epi8(static_cast<char>(192)); // and the mask of the fifth weight

    ALWAYS_INLINE void operator()(__m512i codes, __m512i & four, __m512i & fifth) const {
        const __mmask64 far = _mm512_cmpge_epu8_mask(codes, first_beyond);
        four = _mm512_mask_permutexvar_epi8(_mm512_permutexvar_epi8(codes, below), far, codes, beyond);
        fifth = _mm512_mask_permutexvar_epi8(_mm512_and_si512(codes, first_beyond), far, codes, fifth_beyond);
    }
};

// As in avx512.cc: with one or two columns, planes are multiplied where they stand, and each has its own sum.
template <int N>
constexpr int sums = N <= 2 ? 4 : 1;

template <int N>
struct Sums {
    __m512i low[N][sums<N>];
    __m512i high[N][sums<N>];
};

template <int N, int P>
ALWAYS_INLINE __m512i plane_of(__m512i four) {
    if constexpr (N <= 2) {
        return _mm512_and_si512(four, _mm512_set1_epi8(static_cast<char>(3 << (2 * P))));
    } else {
        return _mm512_and_si512(P ? _mm512_srli_epi16(four, static_cast<unsigned>(2 * P)) : four, _mm512_set1_epi8(3));
    }
}

template <int N>
ALWAYS_INLINE void add(Sums<N> & sum, int plane, __m512i low, __m512i high, const int32_t * activations) {
    UNROLLED for (int c = 0; c < N; ++c) {
        const __m512i x = _mm512_set1_epi32(activations[c]);
        sum.low[c][plane % sums<N>] = multiply_add(sum.low[c][plane % sums<N>], low, x);
        sum.high[c][plane % sums<N>] = multiply_add(sum.high[c][plane % sums<N>], high, x);
    }
}

template <int N>
ALWAYS_INLINE void add_four(Sums<N> & sum, __m512i low, __m512i high, const int32_t * activations) {
    add<N>(sum, 0, plane_of<N, 0>(low), plane_of<N, 0>(high), activations);
    add<N>(sum, 1, plane_of<N, 1>(low), plane_of<N, 1>(high), activations + N);
    add<N>(sum, 2, plane_of<N, 2>(low), plane_of<N, 2>(high), activations + 2 * N);
    add<N>(sum, 3, plane_of<N, 3>(low), plane_of<N, 3>(high), activations + 3 * N);
}

template <int N>
ALWAYS_INLINE __m512i total(const __m512i (&sum)[sums<N>]) {
    if constexpr (N <= 2) {
        return planes_together(sum);
    } else {
        return sum[0];
    }
}

template <int N>
void multiply_group(const QuintTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    const Decoder decode;
    __m512 low[N], high[N];
    UNROLLED for (int c = 0; c < N; ++c) {
        low[c] = high[c] = _mm512_setzero_ps();
    }
    const auto * activations = reinterpret_cast<const int32_t *>(panel.codes);
    for (size_t b = 0; b < n_blocks; ++b) {
        Sums<N> sum;
        UNROLLED for (int c = 0; c < N; ++c) {
            UNROLLED for (int p = 0; p < sums<N>; ++p) {
                sum.low[c][p] = sum.high[c][p] = p == 0 ? _mm512_set1_epi32(panel.offsets[b * N + static_cast<size_t>(c)]) : _mm512_setzero_si512();
            }
        }
        for (size_t t = 0; t < 12; ++t, activations += 5 * N) {
            const Halves codes = load_codes(tiles[b].codes[t]);
            __m512i low_four, low_fifth, high_four, high_fifth;
            decode(codes.low, low_four, low_fifth);
            decode(codes.high, high_four, high_fifth);
            add_four<N>(sum, low_four, high_four, activations);
            if constexpr (N > 2) { // nothing stands below the fifth
                low_fifth = _mm512_srli_epi16(low_fifth, 6);
                high_fifth = _mm512_srli_epi16(high_fifth, 6);
            }
            add<N>(sum, 3, low_fifth, high_fifth, activations + 4 * N);
        }
        const Halves tail = load_codes(tiles[b].tail);
        add_four<N>(sum, tail.low, tail.high, activations);
        activations += 4 * N;
        const FloatHalves scales = load_scales(tiles[b].scales);
        UNROLLED for (int c = 0; c < N; ++c) {
            const float scale = panel.scales[b * N + static_cast<size_t>(c)];
            low[c] = scaled(total<N>(sum.low[c]), scales.low, scale, low[c]);
            high[c] = scaled(total<N>(sum.high[c]), scales.high, scale, high[c]);
        }
    }
    UNROLLED for (int c = 0; c < N; ++c) {
        _mm512_storeu_ps(out[c], low[c]);
        _mm512_storeu_ps(out[c] + 16, high[c]);
    }
}

using MultiplyGroup = void (*)(const QuintTile *, size_t, const Panel &, float (*)[tile_rows]);
constexpr MultiplyGroup by_columns[panel_columns] = {multiply_group<1>, multiply_group<2>, multiply_group<3>, multiply_group<4>,
                                                     multiply_group<5>, multiply_group<6>, multiply_group<7>, multiply_group<8>};
static_assert(strip_groups(Layout::quints) == 1);

void multiply(const uint8_t * strip, size_t, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    by_columns[panel.columns - 1](reinterpret_cast<const QuintTile *>(strip), n_blocks, panel, out);
}

// Four columns that stand together in a tile of one kind and in the other.
template <int Unit>
ALWAYS_INLINE __m512i moved(const __m512i * four, const __m512i * fifth) {
    constexpr int to = Unit % 4;
    const __m512i place = _mm512_set1_epi8(static_cast<char>(3 << (2 * to)));
    constexpr int from = Unit < 60 ? (Unit % 5 == 4 ? 3 : Unit % 5) : Unit - 60;
    const __m512i codes = Unit < 60 && Unit % 5 == 4 ? fifth[Unit / 5] : four[Unit < 60 ? Unit / 5 : 12];
    const __m512i there = to > from ? _mm512_slli_epi16(codes, static_cast<unsigned>(2 * (to - from))) : _mm512_srli_epi16(codes, static_cast<unsigned>(2 * (from - to)));
    return _mm512_and_si512(there, place);
}

template <size_t... T>
ALWAYS_INLINE void expand_half(const __m512i * four, const __m512i * fifth, TernaryTile & out, size_t row, std::index_sequence<T...>) {
    (_mm512_store_si512(out.codes[T][row], _mm512_or_si512(_mm512_or_si512(moved<4 * T>(four, fifth), moved<4 * T + 1>(four, fifth)),
                                                           _mm512_or_si512(moved<4 * T + 2>(four, fifth), moved<4 * T + 3>(four, fifth)))),
     ...);
}

void expand(const uint8_t * from, TernaryTile & out) {
    const auto & tile = *reinterpret_cast<const QuintTile *>(from);
    const Decoder decode;
    for (size_t row = 0; row < tile_rows; row += 16) {
        __m512i four[13], fifth[12];
        for (size_t t = 0; t < 12; ++t) {
            decode(load(tile.codes[t][row]), four[t], fifth[t]);
        }
        four[12] = load(tile.tail[row]);
        expand_half(four, fifth, out, row, std::make_index_sequence<16>{});
    }
    std::memcpy(out.scales, tile.scales, sizeof(out.scales));
}

} // namespace

const CodedKernels avx512_vbmi2_quints = {Layout::quints, expand, nullptr, multiply, 0, nullptr, nullptr};

} // namespace ternion::kernels
