// What the NEON kernels share: four rows per register, a scale per row.
#pragma once

#include "kernels.h"

#include <arm_neon.h>

#include <type_traits>
#include <utility>

#define ALWAYS_INLINE __attribute__((always_inline))

namespace ternion::kernels {
namespace {

constexpr int quads = tile_rows / 4;

/// Times four rows that are summed up together for N columns: as many as leave room in 32 registers.
template <int N>
constexpr int quads_together = N <= 4 ? 4 : 2;

/// Calls `body` with 0 … N - 1 as types: a lane and a shift are part of an instruction.
template <int N, typename Body>
ALWAYS_INLINE inline void repeat(Body body) {
    [&]<int... I>(std::integer_sequence<int, I...>) ALWAYS_INLINE { (body(std::integral_constant<int, I>{}), ...); }(std::make_integer_sequence<int, N>{});
}

ALWAYS_INLINE inline float32x4_t load_scales(const uint16_t (&scales)[tile_rows], int quad) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(scales + 4 * quad)));
}

/// Adds a block's sums, scaled, to the totals of four rows.
ALWAYS_INLINE inline void add_scaled(int32x4_t sum, float32x4_t weight_scale, float activation_scale, float * totals) {
    vst1q_f32(totals, vfmaq_f32(vld1q_f32(totals), vcvtq_f32_s32(sum), vmulq_n_f32(weight_scale, activation_scale)));
}

} // namespace
} // namespace ternion::kernels
