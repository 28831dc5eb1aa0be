#include "pack.h"

#include "half.h"

#include <array>
#include <cstring>

namespace ternion::kernels {
namespace {

constexpr size_t block = TernaryTile::columns;

// Bytes of a block of 256 (q8_0: 32) weights, and where its half-precision scale is.
struct BlockFacts {
    size_t weights;
    size_t bytes;
    size_t scale_at;
};

constexpr BlockFacts facts(SourceFormat format) {
    switch (format) {
        case SourceFormat::tq1_0: return {256, 54, 52};
        case SourceFormat::tq2_0: return {256, 66, 64};
        case SourceFormat::q8_0:  return {32, 34, 0};
    }
    return {};
}

// Two bits per weight: byte m of half h holds columns 128 h + 32 p + m, p = 0 … 3, from the lowest bits on.
void codes_of_tq2_0(const uint8_t * source, uint8_t * codes) {
    for (size_t h = 0; h < 2; ++h) {
        for (size_t p = 0; p < 4; ++p) {
            for (size_t m = 0; m < 32; ++m) {
                codes[128 * h + 32 * p + m] = source[32 * h + m] >> (2 * p) & 3;
            }
        }
    }
}

// Base 3: a byte is the fraction 0.d0 d1 d2 d3 d4 times 256, rounded up; multiplying by 3^n brings digit n to the front.
void digits_of_tq1_0(const uint8_t * bytes, size_t n_bytes, size_t n_digits, uint8_t * codes) {
    constexpr std::array<uint8_t, 5> power = {1, 3, 9, 27, 81};
    for (size_t n = 0; n < n_digits; ++n) {
        for (size_t m = 0; m < n_bytes; ++m) {
            const auto rest = static_cast<uint8_t>(bytes[m] * power[n]);
            codes[n * n_bytes + m] = static_cast<uint8_t>(rest * 3u >> 8);
        }
    }
}

void codes_of_tq1_0(const uint8_t * source, uint8_t * codes) {
    digits_of_tq1_0(source, 32, 5, codes);
    digits_of_tq1_0(source + 32, 16, 5, codes + 160);
    digits_of_tq1_0(source + 48, 4, 4, codes + 240);
}

// Four codes of a byte come from columns that are 4 apart: combined as whole words.
void put_ternary(TernaryTile & tile, size_t row, const uint8_t * codes, uint16_t scale) {
    for (size_t t = 0; t < 16; ++t) {
        uint32_t plane[4];
        std::memcpy(plane, codes + 16 * t, sizeof(plane));
        const uint32_t word = plane[0] | plane[1] << 2 | plane[2] << 4 | plane[3] << 6;
        std::memcpy(tile.codes[t][row], &word, sizeof(word));
    }
    tile.scales[row] = scale;
}

void put_bytes(ByteTile & tile, size_t row, const uint8_t * source) {
    for (size_t t = 0; t < 8; ++t) {
        uint32_t word;
        std::memcpy(&word, source + 2 + 4 * t, sizeof(word));
        word ^= 0x80808080u; // two's complement plus 128
        std::memcpy(tile.codes[t][row], &word, sizeof(word));
    }
    std::memcpy(&tile.scales[row], source, sizeof(uint16_t));
}

// Rows beyond the last: weights of zero with a scale of zero.
void put_nothing(TernaryTile & tile, size_t row) {
    for (auto & columns : tile.codes) {
        std::memset(columns[row], 0x55, 4);
    }
    tile.scales[row] = 0;
}

void put_nothing(ByteTile & tile, size_t row) {
    for (auto & columns : tile.codes) {
        std::memset(columns[row], 0x80, 4);
    }
    tile.scales[row] = 0;
}

} // namespace

size_t source_row_bytes(SourceFormat format, size_t columns) {
    return columns / facts(format).weights * facts(format).bytes;
}

size_t packed_bytes(SourceFormat format, size_t rows, size_t columns) {
    const size_t tile = format == SourceFormat::q8_0 ? sizeof(ByteTile) : sizeof(TernaryTile);
    return row_groups(rows) * (columns / facts(format).weights) * tile;
}

void pack(SourceFormat format, const uint8_t * source, uint8_t * packed, size_t rows, size_t columns, size_t first, size_t last) {
    const BlockFacts fact = facts(format);
    const size_t n_blocks = columns / fact.weights;
    const size_t row_bytes = source_row_bytes(format, columns);
    alignas(64) uint8_t codes[block];
    for (size_t group = first; group < last; ++group) {
        for (size_t b = 0; b < n_blocks; ++b) {
            const size_t at = group * n_blocks + b;
            for (size_t i = 0; i < tile_rows; ++i) {
                const size_t row = group * tile_rows + i;
                const uint8_t * from = source + row * row_bytes + b * fact.bytes;
                if (format == SourceFormat::q8_0) {
                    ByteTile & tile = reinterpret_cast<ByteTile *>(packed)[at];
                    row < rows ? put_bytes(tile, i, from) : put_nothing(tile, i);
                    continue;
                }
                TernaryTile & tile = reinterpret_cast<TernaryTile *>(packed)[at];
                if (row >= rows) {
                    put_nothing(tile, i);
                    continue;
                }
                format == SourceFormat::tq2_0 ? codes_of_tq2_0(from, codes) : codes_of_tq1_0(from, codes);
                uint16_t scale;
                std::memcpy(&scale, from + fact.scale_at, sizeof(scale));
                put_ternary(tile, i, codes, scale);
            }
        }
    }
}

void unpack_row(SourceFormat format, const uint8_t * packed, size_t columns, size_t row, float * out) {
    const size_t n_blocks = columns / facts(format).weights;
    const size_t first = row / tile_rows * n_blocks;
    const size_t i = row % tile_rows;
    for (size_t b = 0; b < n_blocks; ++b) {
        if (format == SourceFormat::q8_0) {
            const ByteTile & tile = reinterpret_cast<const ByteTile *>(packed)[first + b];
            const float scale = half_to_float(tile.scales[i]);
            for (size_t k = 0; k < ByteTile::columns; ++k) {
                *out++ = scale * static_cast<float>(tile.codes[k / 4][i][k % 4] - 128);
            }
            continue;
        }
        const TernaryTile & tile = reinterpret_cast<const TernaryTile *>(packed)[first + b];
        const float scale = half_to_float(tile.scales[i]);
        for (size_t k = 0; k < TernaryTile::columns; ++k) {
            const int code = tile.codes[k / 16][i][k % 4] >> (2 * (k % 16 / 4)) & 3;
            *out++ = scale * static_cast<float>(code - 1);
        }
    }
}

} // namespace ternion::kernels
