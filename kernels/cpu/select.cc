// Which kernels this processor runs.
#include "kernels.h"

#include <array>
#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
#define TERNION_ARM64
#if defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(_WIN32)
#include <windows.h>
#elif defined(__linux__)
#include <sys/auxv.h>
#endif
#endif

namespace ternion::kernels {
namespace {

#if defined(__x86_64__) && defined(__GNUC__)
bool runs_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

// Leaf 7, subleaf 1, EAX bit 4; GCC 12 does not know the name.
bool runs_avx_vnni() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return runs_avx2() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 4 & 1);
}

bool runs_avx512_vnni() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

bool runs_vbmi2() {
    return __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
}
#endif

#if defined(TERNION_ARM64)
// By number: older headers of the system do not know the names.
bool runs_dot_product() {
#if defined(__APPLE__)
    int found = 0;
    size_t bytes = sizeof(found);
    return sysctlbyname("hw.optional.arm.FEAT_DotProd", &found, &bytes, nullptr, 0) == 0 && found != 0;
#elif defined(_WIN32)
    constexpr DWORD v82_dot_product = 43;
    return IsProcessorFeaturePresent(v82_dot_product) != 0;
#elif defined(__linux__)
    constexpr unsigned long asimd_dot_product = 1ul << 20;
    return (getauxval(AT_HWCAP) & asimd_dot_product) != 0;
#else
    return false;
#endif
}
#endif

struct Available {
    std::array<const Kernels *, 5> sets{};
    size_t count = 0;

    Available() {
#if defined(__x86_64__) && defined(__GNUC__)
        if (runs_avx512_vnni() && runs_vbmi2()) {
            sets[count++] = &avx512_vbmi2_kernels;
        }
        if (runs_avx512_vnni()) {
            sets[count++] = &avx512_vnni_kernels;
        }
        if (runs_avx_vnni()) {
            sets[count++] = &avx_vnni_kernels;
        }
        if (runs_avx2()) {
            sets[count++] = &avx2_kernels;
        }
#endif
#if defined(TERNION_ARM64)
        if (runs_dot_product()) {
            sets[count++] = &neon_dotprod_kernels;
        }
#endif
        sets[count++] = &scalar_kernels;
    }
};

} // namespace

const Kernels * const * available_kernels(size_t & count) {
    static const Available available;
    count = available.count;
    return available.sets.data();
}

} // namespace ternion::kernels
