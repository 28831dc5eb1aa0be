// AVX2 with AVX-VNNI: Alder Lake and later without AVX-512.
#define TERNION_AVX_VNNI
#include "avx2.inc"
#include "avx2_q6_k.inc"
#include "avx2_quantise.inc"

namespace ternion::kernels {
const Kernels avx_vnni_kernels = {"avx-vnni", ternary, bytes, quantise256, quantise32, &avx2_stq1_0, nullptr, six_bits};
}
