// The private in-memory layout of matrices: 32 rows side by side, so that a SIMD lane is a row.
//
// A lane that owns a row sums it up without ever looking at its neighbours; activations come as broadcasts, and scales are
// applied once per block. One layout serves every instruction set and both decode and prefill.
//
//   TernaryTile: 32 rows x 256 columns, 2112 bytes = 32 blocks of TQ2_0
//
//     codes[t]   columns 16 t … 16 t + 15:    row 0       row 1             row 31
//                                          [b0 b1 b2 b3][b0 b1 b2 b3] … [b0 b1 b2 b3]
//                byte bj, bits 2 p and 2 p + 1: the weight of column 16 t + 4 p + j, plus 1
//     scales     one half-precision number per row
//
//   ByteTile: 32 rows x 32 columns, 1088 bytes = 32 blocks of Q8_0
//
//     codes[t]   columns 4 t … 4 t + 3, as above; byte bj: the weight of column 4 t + j, plus 128
#pragma once

#include <cstddef>
#include <cstdint>

namespace ternion::kernels {

constexpr size_t tile_rows = 32;

struct alignas(64) TernaryTile {
    static constexpr size_t columns = 256;
    uint8_t codes[16][tile_rows][4];
    uint16_t scales[tile_rows];
};

struct alignas(64) ByteTile {
    static constexpr size_t columns = 32;
    uint8_t codes[8][tile_rows][4];
    uint16_t scales[tile_rows];
};

static_assert(sizeof(TernaryTile) == 2112 && sizeof(ByteTile) == 1088);

/// Tiles that `rows` take: the last one is filled up with rows of zeros.
constexpr size_t row_groups(size_t rows) {
    return (rows + tile_rows - 1) / tile_rows;
}

} // namespace ternion::kernels
