// What an instruction set offers: products of row groups with activations.
#pragma once

#include "../formats/tiles.h"

#include <cstddef>
#include <cstdint>

namespace ternion::kernels {

/// Most columns (tokens) that a panel holds; what two accumulators per column leave room for in 32 registers.
constexpr size_t panel_columns = 8;

/// Columns of activations, rounded to 8 bits block by block (256 weights for ternary matrices, 32 for 8-bit ones).
struct Panel {
    size_t columns; // 1 … panel_columns
    /// [weight / 4][column][4], 64-byte aligned.
    const int8_t * codes;
    /// [block][column]: what a code of 1 stands for.
    const float * scales;
    /// [block][column]: what the kernel starts its sum with, since weights are stored with an offset: minus the sum of the
    /// block's codes times 1 (ternary) or 128 (8-bit). For 6-bit matrices [block][16][column]: minus 32 times that of 16 codes.
    const int32_t * offsets;
};

/// `out` [column][row]: the sum over all blocks of weight · activation. Integer sums are exact; a block's is scaled and added in
/// single precision, block after block, so every kernel gives the same bits but for fused multiply-adds.
using TernaryKernel = void (*)(const TernaryTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]);
using ByteKernel = void (*)(const ByteTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]);
using SixBitKernel = void (*)(const SixBitTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]);

/// Rounds 256 activations as llama.cpp's Q8_K does: the largest in magnitude becomes -127 or 127, ties to even. `sum` is that of
/// the codes. A block with a NaN or an infinity gets a scale of NaN.
using Quantise256 = void (*)(const float * values, int8_t * codes, float & scale, int32_t & sum);
/// 32 activations, as Q8_0: the scale is the largest magnitude / 127, rounded to half precision.
using Quantise32 = Quantise256;

/// Most row groups of a lookup: with their sums, a block's tables and what is fetched ahead, it fills the first-level cache.
constexpr size_t lookup_groups = 16;

/// How matrices whose weights share codes (STQ1_0, five weights in a byte) are computed with.
///
/// Where codes are of 32 kinds, a column's sums over each group are tabulated for every code; the product then looks them up, one
/// lookup for four weights. For many columns tiles are expanded to ternary ones, once for all columns.
struct CodedKernels {
    Layout layout;
    /// The same weights as a ternary tile.
    void (*expand)(const uint8_t * tile, TernaryTile & out);
    /// Products without expanding, for panels whose codes are in another order; null where there is none. `order` brings a block's 256
    /// codes into it; `out` [group][column][row] is that of a strip. The same bits as with expanded tiles.
    void (*order)(int8_t * codes);
    void (*multiply)(const uint8_t * strip, size_t n_groups, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]);
    /// Bytes of a block's tables, a multiple of 64; 0: there is no lookup, and the next two are null.
    size_t table_bytes;
    /// From a block's 256 codes, in the order of columns. `tables` is 64-byte aligned.
    void (*make_tables)(const int8_t * codes, uint8_t * tables);
    /// `out` [group][row] of one column, for up to lookup_groups row groups from the start of a strip on. `tables`, `scales`: one
    /// after the other for all blocks. The same bits as the ternary kernel with the expanded tiles.
    void (*lookup)(const uint8_t * strips, size_t n_groups, size_t n_blocks, const uint8_t * tables, const float * scales, float (*out)[tile_rows]);
};

struct Kernels {
    const char * name; // "avx512-vnni" …, "scalar"
    TernaryKernel ternary;
    ByteKernel bytes;
    Quantise256 quantise256;
    Quantise32 quantise32;
    const CodedKernels * stq1_0;
    const CodedKernels * quints; // null: TQ1_0 and TQ2_0 have ternary tiles only
    SixBitKernel six_bits;
};

extern const Kernels scalar_kernels;
extern const CodedKernels scalar_stq1_0;
#if defined(__x86_64__) || defined(_M_X64)
extern const Kernels avx2_kernels;         // needs AVX2, FMA, F16C
extern const Kernels avx_vnni_kernels;     // and AVX-VNNI
extern const Kernels avx512_vnni_kernels;  // needs AVX-512 F, BW, VL, VNNI
extern const Kernels avx512_vbmi2_kernels; // and VBMI, VBMI2
extern const CodedKernels avx2_stq1_0;
extern const CodedKernels avx512_vbmi2_stq1_0;
extern const CodedKernels avx512_vbmi2_quints;
void avx512_six_bits(const SixBitTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]);
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
extern const Kernels neon_dotprod_kernels; // needs the dot product of ARMv8.2
extern const CodedKernels neon_stq1_0;
void neon_six_bits(const SixBitTile * tiles, size_t n_blocks, const Panel & panel, float (*out)[tile_rows]);
#endif

/// The kernels of a coded layout of a set; null for other layouts.
inline const CodedKernels * coded_kernels(const Kernels & kernels, Layout layout) {
    const CodedKernels * const all[] = {kernels.stq1_0, kernels.quints};
    for (const CodedKernels * coded : all) {
        if (coded && coded->layout == layout) {
            return coded;
        }
    }
    return nullptr;
}

/// Every set that this processor runs, the fastest first; scalar_kernels is the last.
const Kernels * const * available_kernels(size_t & count);

} // namespace ternion::kernels
