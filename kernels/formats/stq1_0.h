/* STQ1_0, "Sherry": of each group of four weights exactly one is zero, the others are plus or minus the block's scale.
 *
 * That is 4 positions times 8 signs: 32 codes, 5 bits for 4 weights. With a half-precision scale for 256 weights a block has
 * 42 bytes, 1.3125 bits per weight.
 *
 *   byte   0                              32        40      42
 *          +------------------------------+---------+-------+
 *          | 64 slots of 4 bits           | 64 signs| scale |
 *          +------------------------------+---------+-------+
 *   group g = 16 c + i, c = 0 … 3, i = 0 … 15:
 *     slot      slots[g / 2], the low half of the byte for even g
 *     sign      signs[g / 8], bit g % 8
 *     weights   64 c + i, + 16, + 32, + 48: a group's weights are 16 apart
 *
 *   slot = zero << 2 | b1 << 1 | b0      zero: which of the four weights is 0
 *   With s0, s1, s2 the signs of the other three in order (1: plus):
 *     sign = !s0,  b0 = s0 ^ s1,  b1 = s0 ^ s2
 *   so the codes with the sign set are the negatives of those without.
 *
 * Files give this format the type numbers 40, 42 or 43, which upstream gave to others: see gguf_types.h. In memory it has a
 * number of ours, GGML_TYPE_STQ1_0, which no file contains.
 *
 * Compiled into ggml (vendor/patches/0006), hence C. Any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TERNION_STQ1_0_WEIGHTS 256

typedef struct {
    uint8_t slots[32];
    uint8_t signs[8];
    uint16_t scale; /* half precision */
} ternion_stq1_0_block;

/* `n` weights, a multiple of 256. */
void ternion_stq1_0_to_float(const void * blocks, float * out, int64_t n);

/* The block whose weights are nearest in the least-squares sense: which weight of a group is zero and the scale are improved in
 * turn until neither changes. Weights that are of this form already come back exactly, if a half can hold their scale. */
void ternion_stq1_0_from_float(const float * weights, void * blocks, int64_t n);

/* The same, row by row, with errors weighed by `importance` (one number per column, or null). Returns the bytes written. */
size_t ternion_stq1_0_quantize(const float * weights, void * blocks, int64_t rows, int64_t columns, const float * importance);

/* The inner product of n weights with activations in ggml's Q8_K; what runs where no kernel of ours does. The arguments are
 * those of every such function of ggml; one row at a time. */
void ternion_stq1_0_dot_q8_K(int n, float * out, size_t, const void * blocks, size_t, const void * activations, size_t, int);

#ifdef __cplusplus
}

namespace ternion::kernels {

/// The four weights of a code (sign << 4 | slot), each -1, 0 or 1, the first in the lowest byte.
constexpr uint32_t stq1_0_weights(int code) {
    const int zero = code >> 2 & 3;
    const int s0 = code & 16 ? -1 : 1;
    const int signs[3] = {s0, code & 1 ? -s0 : s0, code & 2 ? -s0 : s0};
    uint32_t weights = 0;
    for (int lane = 0, next = 0; lane < 4; ++lane) {
        const int weight = lane == zero ? 0 : signs[next++];
        weights |= static_cast<uint32_t>(weight & 255) << (8 * lane);
    }
    return weights;
}

/// The code of group g of a block.
inline int stq1_0_code(const ternion_stq1_0_block & block, int g) {
    return (block.slots[g / 2] >> (4 * (g & 1)) & 15) | (block.signs[g / 8] >> (g % 8) & 1) << 4;
}

} // namespace ternion::kernels
#endif
