#include "panels.h"

#include <cstring>

namespace ternion::kernels {

namespace {

void put_offsets_of_16(const int8_t * codes, int32_t * offsets, size_t stride) {
    for (size_t j = 0; j < 16; ++j, codes += 16, offsets += stride) {
        int32_t sum = 0;
        for (size_t i = 0; i < 16; ++i) {
            sum += codes[i];
        }
        *offsets = -32 * sum;
    }
}

} // namespace

void fill_panel(const Kernels & kernels, const PanelPlace & place, void (*order)(int8_t *), const float * const * columns, size_t first, size_t last) {
    const bool ternary = place.block == TernaryTile::columns;
    const int32_t offset = ternary ? -1 : -128;
    const size_t words = place.block / 4;
    alignas(64) int8_t codes[panel_columns][TernaryTile::columns];
    for (size_t b = first; b < last; ++b) {
        for (size_t c = 0; c < place.columns; ++c) {
            const size_t at = b * place.columns + c;
            int32_t sum = 0;
            (ternary ? kernels.quantise256 : kernels.quantise32)(columns[c] + b * place.block, codes[c], place.scales()[at], sum);
            if (place.offsets_per_block == 1) {
                place.offsets()[at] = offset * sum;
            } else {
                put_offsets_of_16(codes[c], place.offsets() + b * 16 * place.columns + c, place.columns);
            }
            if (order) {
                order(codes[c]);
            }
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

void fill_tables(const Kernels & kernels, const CodedKernels & coded, const TablePlace & place, const float * column) {
    alignas(64) int8_t codes[256];
    for (size_t b = 0; b < place.n_blocks; ++b) {
        int32_t sum = 0;
        kernels.quantise256(column + b * 256, codes, place.scales()[b], sum);
        coded.make_tables(codes, place.tables() + b * place.table_bytes);
    }
}

} // namespace ternion::kernels
