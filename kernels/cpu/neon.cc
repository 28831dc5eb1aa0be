// ARMv8.2 with the dot product: 4 rows per register, four weights of a row per 32-bit lane, activations as one lane of a register.
//
// sdot multiplies signed bytes by signed ones and adds four products to a lane. Ternary codes are the same number with a sign and
// without, and the sum starts with what their offset adds; 8-bit ones lose their offset when the top bit is flipped.
//
// One column (decode): three of the four weights of a byte are masked out where they stand, into sums of their own that are 1, 4
// and 16 times the true one; the fourth would be negative there and is shifted down. That is one operation beside each
// multiplication, and the many sums hide its latency. More columns: all are shifted down, once for all columns.
//
// Tested under emulation; how fast this is has not been measured.
#include "neon.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace ternion::kernels {
namespace {

/// How a tile is multiplied: in steps of 16 columns, of four products each. `sums` is how many a row has.
template <typename Tile, int N>
struct Steps;

template <int N>
struct Steps<TernaryTile, N> {
    static constexpr int count = 16;
    static constexpr int sums = N == 1 ? 3 : 1;

    static int32_t start(const Panel & panel, size_t at) { return panel.offsets[at]; }

    template <int P>
    static constexpr int sum_of = sums == 1 || P == 3 ? 0 : P;

    // Columns 16 step + 4 P … of four rows.
    template <int P>
    ALWAYS_INLINE static int8x16_t weights(const TernaryTile & tile, int step, int quad) {
        const uint8x16_t codes = vld1q_u8(tile.codes[step][4 * quad]);
        if constexpr (P == 3) {
            return vreinterpretq_s8_u8(vshrq_n_u8(codes, 6));
        } else if constexpr (sums == 3 || P == 0) {
            return vreinterpretq_s8_u8(vandq_u8(codes, vdupq_n_u8(3 << 2 * P)));
        } else {
            return vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(codes, 2 * P), vdupq_n_u8(3)));
        }
    }

    ALWAYS_INLINE static int32x4_t together(const int32x4_t (&sum)[sums]) {
        if constexpr (sums == 3) {
            return vsraq_n_s32(vsraq_n_s32(sum[0], sum[1], 2), sum[2], 4);
        } else {
            return sum[0];
        }
    }
};

template <int N>
struct Steps<ByteTile, N> {
    static constexpr int count = 2;
    static constexpr int sums = 1;

    static int32_t start(const Panel &, size_t) { return 0; } // the panel's offsets are for codes as they are stored

    template <int P>
    static constexpr int sum_of = 0;

    template <int P>
    ALWAYS_INLINE static int8x16_t weights(const ByteTile & tile, int step, int quad) {
        return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(tile.codes[4 * step + P][4 * quad]), vdupq_n_u8(0x80)));
    }

    ALWAYS_INLINE static int32x4_t together(const int32x4_t (&sum)[1]) { return sum[0]; }
};

// A block for N columns and quads_together<N> times four rows from `first` on.
template <typename Tile, int N>
ALWAYS_INLINE inline void add_block(const Tile & tile, size_t block, const Panel & panel, int first, float (*out)[tile_rows]) {
    using Way = Steps<Tile, N>;
    int32x4_t sum[quads_together<N>][N][Way::sums];
    repeat<quads_together<N>>([&](auto q) ALWAYS_INLINE {
        repeat<N>([&](auto c) ALWAYS_INLINE {
            repeat<Way::sums>([&](auto s) ALWAYS_INLINE { sum[q][c][s] = vdupq_n_s32(s == 0 ? Way::start(panel, block * N + c) : 0); });
        });
    });
    const int8_t * activations = panel.codes + block * Tile::columns * N;
    for (int step = 0; step < Way::count; ++step, activations += 16 * N) {
        int8x16_t x[N]; // word N p + c: what product p takes from column c
        repeat<N>([&](auto i) ALWAYS_INLINE { x[i] = vld1q_s8(activations + 16 * i); });
        repeat<quads_together<N>>([&](auto q) ALWAYS_INLINE {
            repeat<4>([&](auto p) ALWAYS_INLINE {
                const int8x16_t weights = Way::template weights<p>(tile, step, first + q);
                repeat<N>([&](auto c) ALWAYS_INLINE {
                    constexpr int word = N * p + c;
                    int32x4_t & to = sum[q][c][Way::template sum_of<p>];
                    to = vdotq_laneq_s32(to, weights, x[word / 4], word % 4);
                });
            });
        });
    }
    repeat<quads_together<N>>([&](auto q) ALWAYS_INLINE {
        const int quad = first + q;
        const float32x4_t scales = load_scales(tile.scales, quad);
        repeat<N>([&](auto c) ALWAYS_INLINE { add_scaled(Way::together(sum[q][c]), scales, panel.scales[block * N + c], out[c] + 4 * quad); });
    });
}

template <typename Tile, int N>
void product(const Tile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    std::memset(out, 0, N * sizeof(*out));
    for (size_t b = 0; b < n_blocks; ++b) {
        for (int first = 0; first < quads; first += quads_together<N>) {
            add_block<Tile, N>(tiles[b], b, panel, first, out);
        }
    }
}

template <typename Tile>
using Kernel = void (*)(const Tile *, size_t, const Panel &, float (*)[tile_rows]);

template <typename Tile>
void by_columns(const Tile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]) {
    static constexpr Kernel<Tile> table[panel_columns] = {product<Tile, 1>, product<Tile, 2>, product<Tile, 3>, product<Tile, 4>,
                                                          product<Tile, 5>, product<Tile, 6>, product<Tile, 7>, product<Tile, 8>};
    table[panel.columns - 1](tiles, n_blocks, panel, out);
}

// The largest magnitude of N numbers: NaN if one is, an infinity if one is.
template <int N>
float largest(const float * values) {
    float32x4_t all = vabsq_f32(vld1q_f32(values));
    for (int i = 4; i < N; i += 4) {
        all = vmaxq_f32(all, vabsq_f32(vld1q_f32(values + i)));
    }
    return vmaxvq_f32(all);
}

// Returns the sum of the codes.
template <int N>
int32_t round_all(const float * values, float factor, int8_t * codes) {
    int32x4_t total = vdupq_n_s32(0);
    for (int i = 0; i < N; i += 16) {
        int32x4_t r[4];
        for (int j = 0; j < 4; ++j) {
            r[j] = vminq_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(values + i + 4 * j), factor)), vdupq_n_s32(127));
            total = vaddq_s32(total, r[j]);
        }
        const int16x8_t low = vcombine_s16(vmovn_s32(r[0]), vmovn_s32(r[1]));
        const int16x8_t high = vcombine_s16(vmovn_s32(r[2]), vmovn_s32(r[3]));
        vst1q_s8(codes + i, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
    }
    return vaddvq_s32(total);
}

void nothing(int8_t * codes, size_t n, float & scale, int32_t & sum, bool finite) {
    std::fill_n(codes, n, int8_t{0});
    scale = finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
    sum = 0;
}

void quantise256(const float * values, int8_t * codes, float & scale, int32_t & sum) {
    const float most = largest<256>(values);
    const bool finite = std::isfinite(most);
    float signed_most = 0.0f;
    for (size_t i = 0; finite && i < 256; ++i) { // the first of that magnitude decides on the sign
        if (std::fabs(values[i]) == most) {
            signed_most = values[i];
            break;
        }
    }
    const float factor = -127.0f / signed_most;
    if (!finite || most == 0.0f || !std::isfinite(factor)) {
        nothing(codes, 256, scale, sum, finite);
        return;
    }
    sum = round_all<256>(values, factor, codes);
    scale = 1.0f / factor;
}

void quantise32(const float * values, int8_t * codes, float & scale, int32_t & sum) {
    const float most = largest<32>(values);
    const bool finite = std::isfinite(most);
    const float step = most / 127.0f;
    const float factor = step == 0.0f ? 0.0f : 1.0f / step;
    if (!finite || !std::isfinite(factor)) {
        nothing(codes, 32, scale, sum, finite);
        return;
    }
    sum = round_all<32>(values, factor, codes);
    scale = vgetq_lane_f32(vcvt_f32_f16(vcvt_f16_f32(vdupq_n_f32(step))), 0);
}

} // namespace

const Kernels neon_dotprod_kernels = {"neon-dotprod", by_columns<TernaryTile>, by_columns<ByteTile>, quantise256, quantise32, &neon_stq1_0, nullptr, neon_six_bits};

} // namespace ternion::kernels
