// Where the quantised types keep their scales.
#pragma once

#include "ggml.h"

#include <cstdint>
#include <string>

namespace ternion {

/// Where a block keeps its half-precision scales, in bytes from its start.
struct BlockLayout {
    ggml_type type;
    double unit_deviation; // of random bits with a scale of 1, measured over a million weights
    int scale_at = 0;
    int min_at = -1;         // -1: there is no minimum
    double min_factor = 0.0; // times the scale: the minimum that makes the mean of random bits zero
};

/// Null for floating types, and for those whose scales are no half-precision numbers in one place (IQ1_M, MXFP4, NVFP4).
const BlockLayout * block_layout(ggml_type type);

/// The scales of a block (and its minimum, if it has one) as numbers, up to four; returns how many, 0 for a type without
/// known ones. What stands for NaN in the file is NaN here.
int block_scales(ggml_type type, const uint8_t * block, float * scales);

/// What a byte of the unsigned 8-bit float E4M3 stands for (exponent bias 7, 127 is NaN), as NVFP4 has them as scales.
float ue4m3(uint8_t code);

/// The type of that name ("tq2_0", "q4_K"), GGML_TYPE_COUNT if there is none.
ggml_type type_by_name(const std::string & name);

} // namespace ternion
