// Activations made ready for kernels: rounded to 8 bits and put side by side, or tabulated.
#pragma once

#include "kernels.h"

#include <cstddef>
#include <cstdint>

namespace ternion::kernels {

constexpr size_t aligned(size_t bytes) {
    return (bytes + 63) & ~size_t{63};
}

/// Where the parts of a panel lie in the scratch memory.
struct PanelPlace {
    size_t columns;
    size_t n_blocks;
    size_t block;   // columns of the matrix that share a scale
    size_t offsets_per_block;
    uint8_t * base;

    size_t code_bytes() const { return aligned(n_blocks * block * columns); }
    size_t fact_bytes() const { return aligned(n_blocks * columns * 4); }
    size_t bytes() const { return code_bytes() + (1 + offsets_per_block) * fact_bytes(); }
    int8_t * codes() const { return reinterpret_cast<int8_t *>(base); }
    float * scales() const { return reinterpret_cast<float *>(base + code_bytes()); }
    int32_t * offsets() const { return reinterpret_cast<int32_t *>(base + code_bytes() + fact_bytes()); }
    Panel panel() const { return {columns, codes(), scales(), offsets()}; }
};

/// Rounds blocks [first, last) of the panel's columns; `order`, unless null, then puts each block's codes into the order of a kernel. Blocks lie one after the other, so threads that share a panel write to
/// different cache lines.
void fill_panel(const Kernels & kernels, const PanelPlace & place, void (*order)(int8_t *), const float * const * columns, size_t first, size_t last);

/// Where the tables of one column lie.
struct TablePlace {
    size_t n_blocks;
    size_t table_bytes;
    uint8_t * base;

    size_t bytes() const { return n_blocks * table_bytes + aligned(n_blocks * sizeof(float)); }
    uint8_t * tables() const { return base; }
    float * scales() const { return reinterpret_cast<float *>(base + n_blocks * table_bytes); }
};

void fill_tables(const Kernels & kernels, const CodedKernels & coded, const TablePlace & place, const float * column);

} // namespace ternion::kernels
