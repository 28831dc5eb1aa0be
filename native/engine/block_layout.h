// Where the quantised types keep their scales.
#pragma once

#include "ggml.h"

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

/// The type of that name ("tq2_0", "q4_K"), GGML_TYPE_COUNT if there is none.
ggml_type type_by_name(const std::string & name);

} // namespace ternion
