#include "pack.h"

#include "half.h"
#include "quints.h"
#include "stq1_0.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

namespace ternion::kernels {
namespace {

uint16_t half_at(const uint8_t * at) {
    uint16_t half;
    std::memcpy(&half, at, sizeof(half));
    return half;
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

// A block of Q6_K: 128 bytes of low halves, 64 of high bits, 16 factors, the scale. In each half of 128 columns, byte l of 32 of the
// high bits is for columns l, 32 + l, 64 + l and 96 + l; the low halves of the first two are in the low halves of bytes l and 32 + l.
void put_q6_k(SixBitTile & tile, size_t row, const uint8_t * block) {
    const uint8_t * low = block;
    const uint8_t * high = block + 128;
    for (auto & columns : tile.low) {
        std::memset(columns[row], 0, 4);
    }
    for (auto & columns : tile.high) {
        std::memset(columns[row], 0, 4);
    }
    for (size_t k = 0; k < 256; ++k) {
        const size_t half = k / 128, quarter = k % 128 / 32, l = k % 32;
        const uint8_t four = low[64 * half + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
        const uint8_t two = high[32 * half + l] >> (2 * quarter) & 3;
        uint8_t & low_byte = tile.low[k / 8][row][k % 4];
        uint8_t & high_byte = tile.high[k / 16][row][k % 4];
        low_byte = static_cast<uint8_t>(low_byte | four << (k % 8 / 4 * 4));
        high_byte = static_cast<uint8_t>(high_byte | two << (k % 16 / 4 * 2));
    }
    for (size_t j = 0; j < 16; ++j) {
        tile.factors[j][row] = static_cast<int8_t>(block[192 + j]);
    }
    tile.scales[row] = half_at(block + 208);
}

ternion_stq1_0_block stq1_0_at(const uint8_t * source) {
    ternion_stq1_0_block block;
    std::memcpy(&block, source, sizeof(block));
    return block;
}

// Sixteen codes of 5 bits in five words.
void put_words(uint16_t (&words)[5][tile_rows], size_t row, const uint8_t (&codes)[16]) {
    const size_t lane = 2 * (row % 16) + row / 16;
    uint32_t bits = 0;
    int n_bits = 0;
    for (size_t i = 0, w = 0; i < 16; ++i) {
        bits |= static_cast<uint32_t>(codes[i]) << n_bits;
        n_bits += 5;
        if (n_bits >= 16) {
            words[w++][lane] = static_cast<uint16_t>(bits);
            bits >>= 16;
            n_bits -= 16;
        }
    }
}

void put_sherry(SherryTile & tile, size_t row, const uint8_t * source) {
    const ternion_stq1_0_block block = stq1_0_at(source);
    for (size_t c = 0; c < 4; ++c) {
        uint8_t codes[16];
        for (size_t i = 0; i < 16; ++i) {
            const int code = stq1_0_code(block, static_cast<int>(16 * c + i));
            codes[i] = static_cast<uint8_t>((code & 12) << 1 | (code & 16) >> 2 | (code & 3));
        }
        put_words(tile.words[c], row, codes);
    }
    tile.scales[row] = block.scale;
}

void put_nibbles(NibbleTile & tile, size_t row, const uint8_t * source) {
    const ternion_stq1_0_block block = stq1_0_at(source);
    for (size_t c = 0; c < 4; ++c) {
        for (size_t j = 0; j < 8; ++j) {
            tile.nibbles[c][j][row] = block.slots[8 * c + j];
        }
        tile.signs[c][row] = static_cast<uint16_t>(block.signs[2 * c] | block.signs[2 * c + 1] << 8);
    }
    tile.scales[row] = block.scale;
}

/// Code (sign << 4 | slot) of group i of columns 64 c … 64 c + 63.
int code_at(const SherryTile & tile, size_t c, size_t i, size_t row) {
    const size_t lane = 2 * (row % 16) + row / 16;
    const size_t bit = 5 * i;
    const uint32_t low = tile.words[c][bit / 16][lane];
    const uint32_t high = bit / 16 + 1 < 5 ? tile.words[c][bit / 16 + 1][lane] : 0u;
    const uint32_t code = (low | high << 16) >> bit % 16;
    return static_cast<int>((code & 4) << 2 | (code & 24) >> 1 | (code & 3));
}

int code_at(const NibbleTile & tile, size_t c, size_t i, size_t row) {
    return (tile.nibbles[c][i / 2][row] >> (4 * (i % 2)) & 15) | (tile.signs[c][row] >> i & 1) << 4;
}

template <typename Tile>
void expand_tile(const Tile & tile, TernaryTile & out) {
    for (size_t c = 0; c < 4; ++c) {
        for (size_t row = 0; row < tile_rows; ++row) {
            uint32_t planes[4] = {};
            for (size_t i = 0; i < 16; ++i) {
                const uint32_t weights = stq1_0_weights(code_at(tile, c, i, row));
                for (size_t p = 0; p < 4; ++p) {
                    planes[p] |= (((weights >> (8 * p)) + 1u) & 3u) << (8 * (i % 4) + 2 * (i / 4));
                }
            }
            for (size_t p = 0; p < 4; ++p) {
                std::memcpy(out.codes[4 * c + p][row], &planes[p], sizeof(planes[p]));
            }
        }
    }
    std::memcpy(out.scales, tile.scales, sizeof(out.scales));
}

// Byte m of half h holds columns 128 h + 32 p + m, p = 0 … 3, from the lowest bits on: sixteen columns of a tile are four words of the
// block, each shifted alike.
void put_tq2_0(TernaryTile & tile, size_t row, const uint8_t * block) {
    uint32_t words[16];
    std::memcpy(words, block, sizeof(words));
    for (size_t t = 0; t < 16; ++t) {
        const uint32_t * four = words + t / 8 * 8 + t % 2 * 4;
        const size_t shift = t % 8 / 2 * 2;
        uint32_t word = 0;
        for (size_t p = 0; p < 4; ++p) {
            word |= (four[p] >> shift & 0x03030303u) << (2 * p);
        }
        std::memcpy(tile.codes[t][row], &word, sizeof(word));
    }
    tile.scales[row] = half_at(block + 64);
}

void put_tq1_0(TernaryTile & tile, size_t row, const uint8_t * block) {
    alignas(64) uint8_t codes[256];
    codes_of_tq1_0(block, codes);
    put_ternary(tile, row, codes, half_at(block + 52));
}

// Byte by byte, four at a time: nothing carries into the next one.
uint32_t quint_codes(const uint32_t (&weights)[5]) {
    constexpr uint32_t ones = 0x01010101u;
    const uint32_t q = weights[0] + 3 * weights[1] + 9 * weights[2] + 27 * weights[3];
    const uint32_t beyond = (q + 64 * ones) >> 7 & ones; // q is at most 80
    const uint32_t mask = beyond * 255;
    const uint32_t near = weights[4] << 6 | (q & ~mask);
    return (near & ~mask) | ((q + 128 * ones + 17 * weights[4]) & mask);
}

void put_quints(QuintTile & tile, size_t row, const uint32_t (&words)[64], uint16_t scale) {
    for (size_t t = 0; t < 12; ++t) {
        const uint32_t word = quint_codes({words[5 * t], words[5 * t + 1], words[5 * t + 2], words[5 * t + 3], words[5 * t + 4]});
        std::memcpy(tile.codes[t][row], &word, sizeof(word));
    }
    const uint32_t tail = words[60] | words[61] << 2 | words[62] << 4 | words[63] << 6;
    std::memcpy(tile.tail[row], &tail, sizeof(tail));
    tile.scales[row] = scale;
}

bool put_quints_of_tq1_0(QuintTile & tile, size_t row, const uint8_t * block) {
    alignas(64) uint8_t codes[256];
    codes_of_tq1_0(block, codes);
    uint32_t words[64];
    std::memcpy(words, codes, sizeof(words));
    put_quints(tile, row, words, half_at(block + 52));
    return true;
}

// A code of 3, which TQ2_0 has room for and nobody writes, is beyond five weights in a byte.
bool put_quints_of_tq2_0(QuintTile & tile, size_t row, const uint8_t * block) {
    uint32_t packed[16], words[64], beyond = 0;
    std::memcpy(packed, block, sizeof(packed));
    for (size_t i = 0; i < 16; ++i) {
        beyond |= packed[i] & packed[i] >> 1 & 0x55555555u;
        for (size_t p = 0; p < 4; ++p) {
            words[i / 8 * 32 + 8 * p + i % 8] = packed[i] >> (2 * p) & 0x03030303u;
        }
    }
    put_quints(tile, row, words, half_at(block + 64));
    return beyond == 0;
}

void expand_tile(const QuintTile & tile, TernaryTile & out) {
    for (size_t row = 0; row < tile_rows; ++row) {
        for (size_t j = 0; j < 4; ++j) {
            uint8_t weights[64];
            for (size_t t = 0; t < 12; ++t) {
                const QuintWeights five = quint_weights(tile.codes[t][row][j]);
                std::memcpy(weights + 5 * t, five.plus_one, sizeof(five.plus_one));
            }
            for (size_t p = 0; p < 4; ++p) {
                weights[60 + p] = tile.tail[row][j] >> (2 * p) & 3;
            }
            for (size_t t = 0; t < 16; ++t) {
                const uint8_t * four = weights + 4 * t;
                out.codes[t][row][j] = static_cast<uint8_t>(four[0] | four[1] << 2 | four[2] << 4 | four[3] << 6);
            }
        }
    }
    std::memcpy(out.scales, tile.scales, sizeof(out.scales));
}

template <typename Tile, typename Put>
bool pack_tiles(Layout layout, const uint8_t * source, uint8_t * packed, size_t rows, size_t columns, size_t first, size_t last, size_t block_bytes, Put put) {
    bool whole = true;
    const size_t n_blocks = columns / Tile::columns;
    const TileMap map{layout, row_groups(rows), n_blocks};
    for (size_t group = first; group < last; ++group) {
        for (size_t b = 0; b < n_blocks; ++b) {
            auto * const tile = reinterpret_cast<Tile *>(packed + map.at(group, b));
            const size_t row = group * tile_rows;
            if (rows - row < tile_rows) { // rows beyond the last have a scale of zero
                std::memset(tile, 0, sizeof(Tile));
            }
            for (size_t i = 0; i < std::min(tile_rows, rows - row); ++i) {
                const uint8_t * block = source + ((row + i) * n_blocks + b) * block_bytes;
                if constexpr (std::is_same_v<decltype(put(*tile, i, block)), bool>) {
                    whole &= put(*tile, i, block);
                } else {
                    put(*tile, i, block);
                }
            }
        }
    }
    return whole;
}

void unpack(const TernaryTile & tile, size_t row, float * out) {
    const float scale = half_to_float(tile.scales[row]);
    for (size_t k = 0; k < TernaryTile::columns; ++k) {
        const int code = tile.codes[k / 16][row][k % 4] >> (2 * (k % 16 / 4)) & 3;
        out[k] = scale * static_cast<float>(code - 1);
    }
}

void unpack(const ByteTile & tile, size_t row, float * out) {
    const float scale = half_to_float(tile.scales[row]);
    for (size_t k = 0; k < ByteTile::columns; ++k) {
        out[k] = scale * static_cast<float>(tile.codes[k / 4][row][k % 4] - 128);
    }
}

void unpack(const SixBitTile & tile, size_t row, float * out) {
    const float scale = half_to_float(tile.scales[row]);
    for (size_t k = 0; k < SixBitTile::columns; ++k) {
        const int low = tile.low[k / 8][row][k % 4] >> (k % 8 / 4 * 4) & 15;
        const int high = tile.high[k / 16][row][k % 4] >> (k % 16 / 4 * 2) & 3;
        out[k] = scale * static_cast<float>(tile.factors[k / 16][row]) * static_cast<float>((low | high << 4) - 32);
    }
}

} // namespace

size_t source_row_bytes(SourceFormat format, size_t columns) {
    switch (format) {
        case SourceFormat::tq1_0:  return columns / 256 * 54;
        case SourceFormat::tq2_0:  return columns / 256 * 66;
        case SourceFormat::q8_0:   return columns / 32 * 34;
        case SourceFormat::q6_k:   return columns / 256 * 210;
        case SourceFormat::stq1_0: return columns / 256 * sizeof(ternion_stq1_0_block);
    }
    return 0;
}

size_t packed_bytes(Layout layout, size_t rows, size_t columns) {
    return row_groups(rows) * (columns / tile_columns(layout)) * tile_bytes(layout);
}

bool pack(SourceFormat format, Layout layout, const uint8_t * source, uint8_t * packed, size_t rows, size_t columns, size_t first, size_t last) {
    const auto into = [&]<typename Tile>(Tile *, auto put) {
        return pack_tiles<Tile>(layout, source, packed, rows, columns, first, last, source_row_bytes(format, Tile::columns), put);
    };
    switch (layout) {
        case Layout::ternary:  return into(static_cast<TernaryTile *>(nullptr), format == SourceFormat::tq1_0 ? put_tq1_0 : put_tq2_0);
        case Layout::quints:   return into(static_cast<QuintTile *>(nullptr), format == SourceFormat::tq1_0 ? put_quints_of_tq1_0 : put_quints_of_tq2_0);
        case Layout::bytes:    return into(static_cast<ByteTile *>(nullptr), put_bytes);
        case Layout::six_bits: return into(static_cast<SixBitTile *>(nullptr), put_q6_k);
        case Layout::sherry:   return into(static_cast<SherryTile *>(nullptr), put_sherry);
        case Layout::nibbles:  return into(static_cast<NibbleTile *>(nullptr), put_nibbles);
    }
    return false;
}

void expand(Layout layout, const uint8_t * tile, TernaryTile & out) {
    switch (layout) {
        case Layout::sherry: expand_tile(*reinterpret_cast<const SherryTile *>(tile), out); break;
        case Layout::quints: expand_tile(*reinterpret_cast<const QuintTile *>(tile), out); break;
        default:             expand_tile(*reinterpret_cast<const NibbleTile *>(tile), out); break;
    }
}

void unpack_row(Layout layout, const uint8_t * packed, size_t rows, size_t columns, size_t row, float * out) {
    const TileMap map{layout, row_groups(rows), columns / tile_columns(layout)};
    const size_t i = row % tile_rows;
    for (size_t b = 0; b < map.n_blocks; ++b, out += tile_columns(layout)) {
        const uint8_t * tile = packed + map.at(row / tile_rows, b);
        if (layout == Layout::bytes) {
            unpack(*reinterpret_cast<const ByteTile *>(tile), i, out);
        } else if (layout == Layout::ternary) {
            unpack(*reinterpret_cast<const TernaryTile *>(tile), i, out);
        } else if (layout == Layout::six_bits) {
            unpack(*reinterpret_cast<const SixBitTile *>(tile), i, out);
        } else {
            TernaryTile expanded;
            expand(layout, tile, expanded);
            unpack(expanded, i, out);
        }
    }
}

} // namespace ternion::kernels
