// From the file's blocks to tiles, and back to numbers.
#pragma once

#include "tiles.h"

#include <cstddef>
#include <cstdint>

namespace ternion::kernels {

/// A matrix as a GGUF file has it.
enum class SourceFormat { tq1_0, tq2_0, q8_0, stq1_0, q6_k };

/// Bytes of a row of `columns` weights in the file; columns are a multiple of 256 (q8_0: of 32).
size_t source_row_bytes(SourceFormat format, size_t columns);

/// Bytes of the tiles of a matrix; its columns are a multiple of the tile's.
size_t packed_bytes(Layout layout, size_t rows, size_t columns);

/// Packs row groups [first, last) of a matrix of `rows` rows; `source` and `packed` are those of the whole matrix. Different
/// groups may be packed by different threads. TQ1_0 and TQ2_0 go into `ternary` and `quints`, Q8_0 into `bytes`, Q6_K into
/// `six_bits`, STQ1_0 into the other two. False: there are weights that the layout cannot hold.
bool pack(SourceFormat format, Layout layout, const uint8_t * source, uint8_t * packed, size_t rows, size_t columns, size_t first, size_t last);

/// The weights of one row as numbers: the inverse of pack(), and the reference of the kernels.
void unpack_row(Layout layout, const uint8_t * packed, size_t rows, size_t columns, size_t row, float * out);

/// A tile of `sherry`, `nibbles` or `quints` as a ternary one of the same weights.
void expand(Layout layout, const uint8_t * tile, TernaryTile & out);

} // namespace ternion::kernels
