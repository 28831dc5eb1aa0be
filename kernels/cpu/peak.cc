#include "peak.h"

#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

namespace ternion::kernels {

#if defined(__x86_64__) && defined(__GNUC__)
namespace {

// As many sums as it takes for none to wait for its last addition, and as registers hold. Compiled for the instruction sets that the
// names say; the empty assembly keeps the compiler from taking work out of the loop.
constexpr size_t sums = 12;

__attribute__((target("avx512f,avx512vnni"))) void vpdpbusd_zmm(size_t steps) {
    __m512i sum[sums] = {};
    __m512i a = _mm512_set1_epi8(3);
    const __m512i b = _mm512_set1_epi8(1);
    for (size_t i = 0; i < steps; ++i) {
        asm volatile("" : "+v"(a));
        for (__m512i & each : sum) {
            each = _mm512_dpbusd_epi32(each, a, b);
        }
    }
    for (__m512i & each : sum) {
        asm volatile("" : "+v"(each));
    }
}

__attribute__((target("avx2,avxvnni"))) void vpdpbusd_ymm(size_t steps) {
    __m256i sum[sums] = {};
    __m256i a = _mm256_set1_epi8(3);
    const __m256i b = _mm256_set1_epi8(1);
    for (size_t i = 0; i < steps; ++i) {
        asm volatile("" : "+x"(a));
        for (__m256i & each : sum) {
            each = _mm256_dpbusd_avx_epi32(each, a, b);
        }
    }
    for (__m256i & each : sum) {
        asm volatile("" : "+x"(each));
    }
}

__attribute__((target("avx2"))) void vpmaddubsw_ymm(size_t steps) {
    __m256i sum[sums] = {};
    __m256i a = _mm256_set1_epi8(3);
    const __m256i b = _mm256_set1_epi8(1);
    for (size_t i = 0; i < steps; ++i) {
        for (__m256i & each : sum) {
            asm volatile("" : "+x"(a)); // every multiplication is made, not just the first
            each = _mm256_add_epi16(each, _mm256_maddubs_epi16(a, b));
        }
    }
    for (__m256i & each : sum) {
        asm volatile("" : "+x"(each));
    }
}

constexpr MultiplyAdd avx512_vnni{"vpdpbusd zmm", 64 * sums, vpdpbusd_zmm};
constexpr MultiplyAdd avx_vnni{"vpdpbusd ymm", 32 * sums, vpdpbusd_ymm};
constexpr MultiplyAdd avx2{"vpmaddubsw + vpaddw ymm", 32 * sums, vpmaddubsw_ymm};

} // namespace

const MultiplyAdd * multiply_add() {
    struct Choice {
        const Kernels * kernels;
        const MultiplyAdd * fastest;
    };
    constexpr Choice choices[] = {{&avx512_vnni_kernels, &avx512_vnni}, {&avx_vnni_kernels, &avx_vnni}, {&avx2_kernels, &avx2}};
    size_t count = 0;
    const Kernels * const * all = available_kernels(count);
    for (const Choice & choice : choices) {
        for (size_t i = 0; i < count; ++i) {
            if (all[i] == choice.kernels) {
                return choice.fastest;
            }
        }
    }
    return nullptr;
}
#else
const MultiplyAdd * multiply_add() {
    return nullptr;
}
#endif

} // namespace ternion::kernels
