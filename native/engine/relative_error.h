// What quantising a matrix loses: ‖W − Ŵ‖² / ‖W‖².
#pragma once

#include "ggml.h"

#include <cstdint>

namespace ternion {

/// Sums over weights. They do not depend on the number of threads.
struct ErrorSums {
    double difference = 0.0; // of (w − ŵ)²; exactly 0 if, and only if, every weight is the same
    double square = 0.0;     // of w²

    double relative() const { return difference == 0.0 ? 0.0 : difference / square; }
};

/// Adds `rows` rows of `columns` weights and what `quantised`, of the type `type`, says they are.
void add_rows(ErrorSums & sums, ggml_type type, const float * weights, const void * quantised, int64_t rows, int64_t columns, int threads);

} // namespace ternion
