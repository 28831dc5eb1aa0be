// AVX2 with AVX-VNNI: Alder Lake and later without AVX-512.
#define TERNION_AVX_VNNI
#include "avx2.inc"

namespace ternion::kernels {
const Kernels avx_vnni_kernels = {"avx-vnni", by_columns<TernaryTile>, by_columns<ByteTile>, quantise256, quantise32, &scalar_stq1_0, nullptr};
}
