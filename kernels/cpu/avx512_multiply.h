// What products of tiles have in common, for the files that are compiled with AVX-512 VNNI.
#pragma once

#include "../formats/tiles.h"

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 16")

namespace ternion::kernels {
namespace {

// Intrinsics alone let GCC 12 spill accumulators; as an instruction with the accumulator in a register it does not.
#if defined(__GNUC__)
ALWAYS_INLINE __m512i multiply_add(__m512i sum, __m512i weights, __m512i activations) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(activations));
    return sum;
}
#else
#undef ALWAYS_INLINE
#define ALWAYS_INLINE inline
#undef UNROLLED
#define UNROLLED
ALWAYS_INLINE __m512i multiply_add(__m512i sum, __m512i weights, __m512i activations) {
    return _mm512_dpbusd_epi32(sum, weights, activations);
}
#endif

// Far enough ahead for the memory, near enough to stay in the first-level cache. Reading past the end does not fault.
constexpr size_t prefetch_ahead = 16384;

ALWAYS_INLINE __m512i load(const void * at) {
    _mm_prefetch(static_cast<const char *>(at) + prefetch_ahead, _MM_HINT_T0);
    return _mm512_load_si512(at);
}

// Rows 0 … 15 and 16 … 31 of a tile.
struct Halves {
    __m512i low;
    __m512i high;
};

ALWAYS_INLINE Halves load_codes(const uint8_t (&codes)[tile_rows][4]) {
    return {load(codes), load(codes[16])};
}

struct FloatHalves {
    __m512 low;
    __m512 high;
};

ALWAYS_INLINE FloatHalves load_scales(const uint16_t (&scales)[tile_rows]) {
    const auto * at = reinterpret_cast<const __m256i *>(scales);
    return {_mm512_cvtph_ps(_mm256_load_si256(at)), _mm512_cvtph_ps(_mm256_load_si256(at + 1))};
}

ALWAYS_INLINE __m512 scaled(__m512i sum, __m512 weight_scale, float activation_scale, __m512 total) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(weight_scale, _mm512_set1_ps(activation_scale)), total);
}

/// Sums of the planes at bits 0, 2, 4 and 6 of a byte, each multiplied where it stood.
ALWAYS_INLINE __m512i planes_together(const __m512i (&plane)[4]) {
    const __m512i near = _mm512_add_epi32(plane[0], _mm512_srai_epi32(plane[1], 2));
    const __m512i far = _mm512_add_epi32(_mm512_srai_epi32(plane[2], 4), _mm512_srai_epi32(plane[3], 6));
    return _mm512_add_epi32(near, far);
}

} // namespace
} // namespace ternion::kernels
