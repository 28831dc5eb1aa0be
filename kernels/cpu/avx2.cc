// AVX2, FMA and F16C: processors from 2013 on.
#include "avx2.inc"

namespace ternion::kernels {
const Kernels avx2_kernels = {"avx2", by_columns<TernaryTile>, by_columns<ByteTile>, quantise256, quantise32, &scalar_stq1_0, nullptr};
}
