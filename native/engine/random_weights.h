// Seeded random weights in any tensor type, the same bytes on every machine.
#pragma once

#include "ggml.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ternion {

/// splitmix64 (Steele, Lea, Flood 2014): eight random bytes per call from a counter. Cheap to seed, so every tensor has
/// one of its own and does not depend on those before it.
class RandomBits {
  public:
    RandomBits(uint64_t seed, std::string_view name);
    uint64_t next();
    void fill(uint8_t * out, size_t bytes);

  private:
    uint64_t state_;
};

/// Whether random_weights() knows the type's blocks.
bool can_be_random(ggml_type type);

/// Fills `n_blocks` blocks of `type` (ggml_blck_size weights, ggml_type_size bytes each) at `out`. Weights have about
/// the standard deviation `deviation` and a mean of about zero. Quantised blocks are random bits with fixed scales:
/// nothing is computed in floating point that could round differently elsewhere, and gigabytes take seconds. TQ1_0,
/// TQ2_0 and Q2_0 hold valid ternary digits.
void random_weights(ggml_type type, double deviation, RandomBits & random, uint8_t * out, size_t n_blocks);

} // namespace ternion
