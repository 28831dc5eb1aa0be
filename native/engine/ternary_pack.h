// Ternary weights in the packings of other programs, and as blocks of TQ1_0 and TQ2_0.
#pragma once

#include "ggml.h"

#include <cstddef>
#include <cstdint>

namespace ternion {

enum class Packing {
    i2_s,     // Microsoft's BitNet on x86: 32 bytes for 128 weights, weight p + 32 g at bit 6 - 2 g of byte p, a weight more 1
    two_bit,  // .h1b 1 and 2: four weights in a byte, lowest bits first, a weight more 1
    five_bit, // .h1b 3 (Sherry): four weights in five bits, of which one is zero: its place in the upper two bits, signs in the lower three
    base3,    // .h1b 4: five weights in a byte, lowest digit first; rows are filled up to whole 20 weights
};

/// Bytes of a row. Rows of `five_bit` are multiples of 32 weights, of `i2_s` multiples of 128.
size_t packed_row_bytes(Packing packing, int64_t n_weights);

/// Writes -1, 0 and 1. False for a code that stands for none of them: the row is damaged, or is something else.
bool unpack_row(Packing packing, const uint8_t * row, int64_t n_weights, int8_t * out);

/// Blocks of TQ1_0 or TQ2_0 with the scale `d`; `n_weights` is a multiple of 256.
void pack_blocks(ggml_type type, const int8_t * weights, int64_t n_weights, ggml_fp16_t d, uint8_t * out);

} // namespace ternion
