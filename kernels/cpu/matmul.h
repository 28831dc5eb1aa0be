// Products of a packed matrix with columns of activations, by all threads of a pool.
#pragma once

#include "kernels.h"

#include "../formats/pack.h"

#include <cstddef>
#include <cstdint>

struct ggml_threadpool;

namespace ternion::kernels {

struct PackedMatrix {
    SourceFormat format;
    const uint8_t * data;
    size_t rows;
    size_t columns;
};

/// Columns of single-precision numbers that lie anywhere: column j is at [j % n1][j / n1 % n2][j / n1 / n2], strides in bytes.
struct Columns {
    char * data;
    size_t n1, n2;
    size_t stride1, stride2, stride3;

    float * at(size_t j) const {
        return reinterpret_cast<float *>(data + j % n1 * stride1 + j / n1 % n2 * stride2 + j / n1 / n2 * stride3);
    }
};

/// One of the threads that compute an operation together. Without a pool there is only one.
struct Worker {
    size_t index = 0;
    size_t count = 1;
    ggml_threadpool * pool = nullptr;
};

/// Bytes of scratch that matmul() needs, for all threads together; any alignment.
size_t matmul_scratch(const PackedMatrix & matrix, size_t n_columns, size_t n_threads);

/// out(j)[row] = sum over k of matrix(row, k) · in(j)[k], for n_columns columns. Every thread of the pool calls it with the same
/// arguments but its own worker. The result does not depend on the number of threads, nor on which columns come together.
void matmul(const Kernels & kernels, const PackedMatrix & matrix, const Columns & in, const Columns & out, size_t n_columns, void * scratch, const Worker & worker);

} // namespace ternion::kernels
