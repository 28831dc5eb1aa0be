// The multiplication of bytes, for the files that are compiled with AVX-512 VNNI.
#pragma once

#include <immintrin.h>

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

} // namespace
} // namespace ternion::kernels
