#include "relative_error.h"

#include <algorithm>
#include <system_error>
#include <thread>
#include <vector>

namespace ternion {
namespace {

ErrorSums sums_of_row(const float * weights, const float * back, int64_t columns) {
    ErrorSums sums;
    for (int64_t i = 0; i < columns; ++i) {
        const double w = static_cast<double>(weights[i]);
        const double difference = w - static_cast<double>(back[i]);
        sums.difference += difference * difference;
        sums.square += w * w;
    }
    return sums;
}

} // namespace

void add_rows(ErrorSums & sums, ggml_type type, const float * weights, const void * quantised, int64_t rows, int64_t columns, int threads) {
    const size_t row_bytes = ggml_row_size(type, columns);
    std::vector<ErrorSums> of_rows(static_cast<size_t>(rows));
    const int64_t n = std::min<int64_t>(threads, rows);
    std::vector<float> buffers(static_cast<size_t>(n * columns));
    const auto part = [&](int64_t i) {
        float * back = buffers.data() + i * columns;
        for (int64_t row = rows * i / n; row < rows * (i + 1) / n; ++row) {
            const void * data = static_cast<const char *>(quantised) + static_cast<size_t>(row) * row_bytes;
            if (type != GGML_TYPE_F32) {
                ggml_get_type_traits(type)->to_float(data, back, columns);
            }
            of_rows[static_cast<size_t>(row)] = sums_of_row(weights + row * columns, type == GGML_TYPE_F32 ? static_cast<const float *>(data) : back, columns);
        }
    };
    std::vector<std::jthread> workers;
    for (int64_t i = 1; i < n; ++i) {
        try {
            workers.emplace_back(part, i);
        } catch (const std::system_error &) {
            part(i); // the system refuses another thread
        }
    }
    part(0);
    workers.clear(); // joins
    for (const ErrorSums & row : of_rows) {
        sums.difference += row.difference;
        sums.square += row.square;
    }
}

} // namespace ternion
