// Products of packed matrices with columns of activations, by all threads of a pool.
#pragma once

#include "kernels.h"

#include <cstddef>
#include <cstdint>

struct ggml_threadpool;

namespace ternion::kernels {

/// A packed matrix, or several of the same shape one after the other (a mixture's experts).
struct PackedMatrix {
    Layout layout;
    const uint8_t * data;
    size_t rows;
    size_t columns;
    size_t count = 1;
    /// Where there is one column its sums are looked up, which takes the least instructions, but keeps tables in the caches that weights
    /// stream through. Needs kernels with tables.
    bool look_up = false;
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

/// Which matrix each product is with: product i multiplies matrix `matrix(i)` with input column `input(i)` and puts the result
/// into output column i. Without ids all are with the first one, column by column.
struct Routing {
    /// [token][slot], strides in bytes: the matrix. Numbers outside 0 … count - 1 leave the output column as it is.
    const char * ids = nullptr;
    size_t slots = 1; // products per token
    size_t slot_stride = 0, token_stride = 0;
    /// Input columns per token: 1 (shared by the slots) or `slots`.
    size_t inputs = 1;
};

struct SharedActivations;
struct Operation;

/// One of the threads that compute an operation together. Without a pool there is only one, or there is no more than one product.
struct Worker {
    size_t index = 0;
    size_t count = 1;
    ggml_threadpool * pool = nullptr;
    /// With what earlier operations of the graph prepared, or null.
    SharedActivations * shared = nullptr;
    const Operation * operation = nullptr;
};

/// Bytes of scratch that matmul() needs, for all threads together; any alignment.
size_t matmul_scratch(const Kernels & kernels, const PackedMatrix & matrix, size_t n_products, size_t n_threads);

/// out(i)[row] = sum over k of matrix(i)(row, k) · in(input(i))[k], for n_products products. Every thread of the pool calls it with
/// the same arguments but its own worker. The result does not depend on the number of threads, nor on which columns come together.
void matmul(const Kernels & kernels, const PackedMatrix & matrix, const Columns & in, const Columns & out, const Routing & routing, size_t n_products, void * scratch, const Worker & worker);

} // namespace ternion::kernels
