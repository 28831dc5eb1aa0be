#include "matmul.h"

#include "ggml-cpu/ggml-cpu-impl.h"

#include <algorithm>
#include <cstring>

namespace ternion::kernels {
namespace {

// Up to so many columns every thread rounds the activations for itself: cheaper than waiting for each other.
constexpr size_t private_columns = 2;
// Row groups that one thread takes at a time; its part of the matrix stays in the cache for all columns.
constexpr size_t groups_per_task = 4;

constexpr size_t aligned(size_t bytes) {
    return (bytes + 63) & ~size_t{63};
}

/// Where the parts of a panel lie in the scratch memory.
struct PanelPlace {
    size_t columns;
    size_t n_blocks;
    size_t block;
    uint8_t * base;

    size_t code_bytes() const { return aligned(n_blocks * block * columns); }
    size_t fact_bytes() const { return aligned(n_blocks * columns * 4); }
    size_t bytes() const { return code_bytes() + 2 * fact_bytes(); }
    int8_t * codes() const { return reinterpret_cast<int8_t *>(base); }
    float * scales() const { return reinterpret_cast<float *>(base + code_bytes()); }
    int32_t * offsets() const { return reinterpret_cast<int32_t *>(base + code_bytes() + fact_bytes()); }
    Panel panel() const { return {columns, codes(), scales(), offsets()}; }
};

/// How the columns of an operation are cut into panels: full ones, and what is left.
struct Panels {
    size_t n_columns;
    size_t n_blocks;
    size_t block;
    uint8_t * base;

    size_t count() const { return (n_columns + panel_columns - 1) / panel_columns; }
    size_t full_bytes() const { return PanelPlace{panel_columns, n_blocks, block, nullptr}.bytes(); }
    size_t bytes() const { return count() * full_bytes(); }
    PanelPlace at(size_t i) const {
        return {std::min(panel_columns, n_columns - i * panel_columns), n_blocks, block, base + i * full_bytes()};
    }
};

// Rounds blocks [first, last) of a panel's columns, the first of which is column `column` of `in`.
void fill(const Kernels & kernels, const PanelPlace & place, const Columns & in, size_t column, size_t first, size_t last) {
    const bool ternary = place.block == TernaryTile::columns;
    const int32_t offset = ternary ? -1 : -128;
    const size_t words = place.block / 4;
    alignas(64) int8_t codes[panel_columns][TernaryTile::columns];
    for (size_t b = first; b < last; ++b) {
        for (size_t c = 0; c < place.columns; ++c) {
            const size_t at = b * place.columns + c;
            int32_t sum = 0;
            (ternary ? kernels.quantise256 : kernels.quantise32)(in.at(column + c) + b * place.block, codes[c], place.scales()[at], sum);
            place.offsets()[at] = offset * sum;
        }
        int8_t * out = place.codes() + b * place.block * place.columns;
        if (place.columns == 1) {
            std::memcpy(out, codes[0], place.block);
            continue;
        }
        for (size_t word = 0; word < words; ++word) {
            for (size_t c = 0; c < place.columns; ++c, out += 4) {
                std::memcpy(out, codes[c] + 4 * word, 4);
            }
        }
    }
}

void product(const Kernels & kernels, const PackedMatrix & matrix, size_t group, const Panel & panel, const Columns & out, size_t column) {
    alignas(64) float result[panel_columns][tile_rows];
    if (matrix.format == SourceFormat::q8_0) {
        const size_t n_blocks = matrix.columns / ByteTile::columns;
        kernels.bytes(reinterpret_cast<const ByteTile *>(matrix.data) + group * n_blocks, n_blocks, panel, result);
    } else {
        const size_t n_blocks = matrix.columns / TernaryTile::columns;
        kernels.ternary(reinterpret_cast<const TernaryTile *>(matrix.data) + group * n_blocks, n_blocks, panel, result);
    }
    const size_t first = group * tile_rows;
    const size_t n = std::min(tile_rows, matrix.rows - first);
    for (size_t c = 0; c < panel.columns; ++c) {
        std::memcpy(out.at(column + c) + first, result[c], n * sizeof(float));
    }
}

Panels panels_of(const PackedMatrix & matrix, size_t n_columns, void * scratch) {
    const size_t block = matrix.format == SourceFormat::q8_0 ? ByteTile::columns : TernaryTile::columns;
    const auto base = (reinterpret_cast<uintptr_t>(scratch) + 63) & ~uintptr_t{63};
    return {n_columns, matrix.columns / block, block, reinterpret_cast<uint8_t *>(base)};
}

} // namespace

size_t matmul_scratch(const PackedMatrix & matrix, size_t n_columns, size_t n_threads) {
    const Panels panels = panels_of(matrix, n_columns, nullptr);
    return 64 + panels.bytes() * (n_columns <= private_columns ? n_threads : 1);
}

void matmul(const Kernels & kernels, const PackedMatrix & matrix, const Columns & in, const Columns & out, size_t n_columns, void * scratch, const Worker & worker) {
    Panels panels = panels_of(matrix, n_columns, scratch);
    const size_t n_groups = row_groups(matrix.rows);
    if (n_columns <= private_columns) {
        panels.base += worker.index * panels.bytes();
        fill(kernels, panels.at(0), in, 0, 0, panels.n_blocks);
        const size_t last = n_groups * (worker.index + 1) / worker.count;
        for (size_t group = n_groups * worker.index / worker.count; group < last; ++group) {
            product(kernels, matrix, group, panels.at(0).panel(), out, 0);
        }
        return;
    }

    // Blocks of a panel lie one after the other, so threads that share them write to different cache lines.
    for (size_t i = 0; i < panels.count(); ++i) {
        fill(kernels, panels.at(i), in, i * panel_columns, panels.n_blocks * worker.index / worker.count, panels.n_blocks * (worker.index + 1) / worker.count);
    }
    if (worker.pool) {
        if (worker.index == 0) {
            ggml_threadpool_chunk_set(worker.pool, static_cast<int>(worker.count));
        }
        ggml_barrier(worker.pool);
    }
    const size_t per_task = std::clamp<size_t>(n_groups / (4 * worker.count), 1, groups_per_task);
    const size_t n_tasks = (n_groups + per_task - 1) / per_task;
    for (size_t task = worker.index; task < n_tasks;) {
        const size_t first = task * per_task;
        const size_t last = std::min(n_groups, first + per_task);
        for (size_t i = 0; i < panels.count(); ++i) {
            const Panel panel = panels.at(i).panel();
            for (size_t group = first; group < last; ++group) {
                product(kernels, matrix, group, panel, out, i * panel_columns);
            }
        }
        task = worker.pool ? static_cast<size_t>(ggml_threadpool_chunk_add(worker.pool, 1)) : task + worker.count;
    }
}

} // namespace ternion::kernels
