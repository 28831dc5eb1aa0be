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
//   QuintTile: 32 rows x 256 columns, 1728 bytes = 32 blocks of TQ1_0
//
//     codes[t]   columns 20 t … 20 t + 19, rows as above. Byte bj: the weights of columns 20 t + j, + 4, + 8, + 12 and + 16
//     tail       columns 240 … 255, as TernaryTile has them
//     a code     q, of four weights plus 1 in base 3 with the first one lowest, and e, the fifth plus 1:
//                64 e + q where q is below 64, else 192 + 17 e + (q - 64). Two tables of 64 bytes decode it.
//
//   ByteTile: 32 rows x 32 columns, 1088 bytes = 32 blocks of Q8_0
//
//     codes[t]   columns 4 t … 4 t + 3, as above; byte bj: the weight of column 4 t + j, plus 128
//
//   SherryTile: 32 rows x 256 columns, 1344 bytes = 32 blocks of STQ1_0
//
//     words[c]   the 16 groups of columns 64 c … 64 c + 63, group i: columns 64 c + i, + 16, + 32, + 48
//                80 bits per row, group i at bits 5 i … 5 i + 4, in five words from the lowest on
//     words[c][w][2 i + h]: row i + 16 h, so that the halves of a 32-bit lane are 16 rows apart
//     a code     zero << 3 | sign << 2 | b1 << 1 | b0: stq1_0.h's with the sign moved to where a table of sums is made fastest
//
//   NibbleTile: the same in another order, for processors that look up bytes
//
//     nibbles[c][j][row]   group 2 j in the low half, 2 j + 1 in the high one: zero << 2 | b1 << 1 | b0
//     signs[c][row]        bit i: the sign of group i
//
//   SixBitTile: 32 rows x 256 columns, 6720 bytes = 32 blocks of Q6_K
//
//     low[t]     columns 8 t … 8 t + 7, rows as in TernaryTile; byte bj: the low four bits of columns 8 t + j and, above them, 8 t + 4 + j
//     high[u]    columns 16 u … 16 u + 15, as in TernaryTile: the other two bits. A code is the weight plus 32
//     factors    one whole number per row and 16 columns; the scale of the row is for all of them
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

struct alignas(64) QuintTile {
    static constexpr size_t columns = 256;
    uint8_t codes[12][tile_rows][4];
    uint8_t tail[tile_rows][4];
    uint16_t scales[tile_rows];
};

struct alignas(64) ByteTile {
    static constexpr size_t columns = 32;
    uint8_t codes[8][tile_rows][4];
    uint16_t scales[tile_rows];
};

struct alignas(64) SherryTile {
    static constexpr size_t columns = 256;
    uint16_t words[4][5][tile_rows];
    uint16_t scales[tile_rows];
};

struct alignas(64) NibbleTile {
    static constexpr size_t columns = 256;
    uint8_t nibbles[4][8][tile_rows];
    uint16_t signs[4][tile_rows];
    uint16_t scales[tile_rows];
};

struct alignas(64) SixBitTile {
    static constexpr size_t columns = 256;
    uint8_t low[32][tile_rows][4];
    uint8_t high[16][tile_rows][4];
    int8_t factors[16][tile_rows];
    uint16_t scales[tile_rows];
};

static_assert(sizeof(SixBitTile) == 6720 && sizeof(TernaryTile) == 2112 && sizeof(QuintTile) == 1728 && sizeof(ByteTile) == 1088 && sizeof(SherryTile) == 1344 && sizeof(NibbleTile) == 1344);

/// What a packed matrix consists of, and in which order: a strip of row groups after the other, in each the blocks of columns from
/// left to right, of each block the tiles of the strip's row groups. So memory is read in one go by a kernel that takes a strip at a
/// time. `sherry` and `nibbles` have strips of four row groups, the others of one; the last strip may have fewer.
enum class Layout : uint8_t { ternary, bytes, sherry, nibbles, six_bits, quints };

constexpr size_t tile_bytes(Layout layout) {
    switch (layout) {
        case Layout::ternary: return sizeof(TernaryTile);
        case Layout::bytes:   return sizeof(ByteTile);
        case Layout::sherry:  return sizeof(SherryTile);
        case Layout::nibbles: return sizeof(NibbleTile);
        case Layout::six_bits: return sizeof(SixBitTile);
        case Layout::quints:  return sizeof(QuintTile);
    }
    return 0;
}

constexpr size_t strip_groups(Layout layout) {
    return layout == Layout::sherry || layout == Layout::nibbles ? 4 : 1;
}

/// Columns of a tile, which are also those that share a scale of the activations.
constexpr size_t tile_columns(Layout layout) {
    return layout == Layout::bytes ? ByteTile::columns : 256;
}

/// Tiles that `rows` take: the last one is filled up with rows of zeros.
constexpr size_t row_groups(size_t rows) {
    return (rows + tile_rows - 1) / tile_rows;
}

/// Where the tiles of a matrix are.
struct TileMap {
    Layout layout;
    size_t n_groups;
    size_t n_blocks;

    size_t groups_of_strip(size_t strip) const {
        const size_t first = strip * strip_groups(layout);
        return n_groups - first < strip_groups(layout) ? n_groups - first : strip_groups(layout);
    }
    /// Bytes from the start of the matrix.
    size_t at(size_t group, size_t block) const {
        const size_t strip = group / strip_groups(layout);
        const size_t tile = strip * strip_groups(layout) * n_blocks + block * groups_of_strip(strip) + group % strip_groups(layout);
        return tile * tile_bytes(layout);
    }
};

} // namespace ternion::kernels
