// AVX2, FMA and F16C: processors from 2013 on.
#include "avx2.inc"
#include "avx2_q6_k.inc"
#include "avx2_quantise.inc"

namespace ternion::kernels {
const Kernels avx2_kernels = {"avx2", ternary, bytes, quantise256, quantise32, &avx2_stq1_0, nullptr, six_bits};
}
