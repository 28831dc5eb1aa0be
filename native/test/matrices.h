// Random matrices in each format that kernels take, packed and multiplied.
#pragma once

#include "engine/random_weights.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/ways.h"
#include "kernels/formats/pack.h"

#include "ggml.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace ternion::kernels {

struct Format {
    SourceFormat source;
    ggml_type type;
};
constexpr Format formats[] = {
    {SourceFormat::tq1_0, GGML_TYPE_TQ1_0}, {SourceFormat::tq2_0, GGML_TYPE_TQ2_0}, {SourceFormat::q8_0, GGML_TYPE_Q8_0},
    {SourceFormat::stq1_0, GGML_TYPE_STQ1_0}, {SourceFormat::q6_k, GGML_TYPE_Q6_K},
};

/// A set of kernels with one of its ways of taking a format.
struct System {
    const Kernels & kernels;
    Format format;
    Way way;

    std::string name() const { return std::string(kernels.name) + "/" + way.name + " " + ggml_type_name(format.type); }
};

/// Every one of this processor.
template <typename Each>
void for_each_system(Each each) {
    size_t count = 0;
    const Kernels * const * all = available_kernels(count);
    for (size_t k = 0; k < count; ++k) {
        for (const Format & format : formats) {
            for (const Way & way : ways_of(*all[k], format.source)) {
                each(System{*all[k], format, way});
            }
        }
    }
}

struct Matrix {
    Format format;
    size_t rows, columns, count;
    std::vector<uint8_t> source;

    const uint8_t * row(size_t r) const { return source.data() + r * source_row_bytes(format.source, columns); }
};

/// Sets the scale of each block of a matrix to the half-precision number that `bits` returns.
template <typename Bits>
void set_scales(Matrix & m, Bits bits) {
    const size_t block = ggml_type_size(m.format.type);
    for (size_t at = m.format.source == SourceFormat::q8_0 ? 0 : block - 2; at < m.source.size(); at += block) {
        const auto scale = static_cast<uint16_t>(bits());
        std::memcpy(m.source.data() + at, &scale, sizeof(scale));
    }
}

/// Every block has a scale of its own, so that those of other rows and blocks do not pass for it.
inline Matrix random_matrix(const Format & format, size_t rows, size_t columns, size_t count = 1) {
    Matrix m{format, rows, columns, count, std::vector<uint8_t>(count * rows * source_row_bytes(format.source, columns))};
    ternion::RandomBits random(7, "matrix");
    ternion::random_weights(format.type, 1.0, random, m.source.data(), count * rows * columns / static_cast<size_t>(ggml_blck_size(format.type)));
    set_scales(m, [&] {
        const uint64_t bits = random.next();
        return (bits >> 63) << 15 | (0x2000 + bits % 0x800); // 2^-7 … 2^-5, of either sign
    });
    return m;
}

/// A matrix packed for a set of kernels.
struct Packed {
    std::vector<uint8_t> memory; // with room to align
    PackedMatrix view;

    bool whole = true;

    Packed(const Way & way, const Matrix & m) {
        const Layout layout = way.layout;
        const size_t bytes = packed_bytes(layout, m.rows, m.columns);
        memory.resize(m.count * bytes + 64, 0xa5);
        auto * data = reinterpret_cast<uint8_t *>((reinterpret_cast<uintptr_t>(memory.data()) + 63) & ~uintptr_t{63});
        for (size_t i = 0; i < m.count; ++i) {
            whole &= pack(m.format.source, layout, m.row(i * m.rows), data + i * bytes, m.rows, m.columns, 0, row_groups(m.rows));
        }
        view = {layout, data, m.rows, m.columns, m.count, way.look_up};
    }
};

inline Columns columns_at(const std::vector<float> & data, size_t length, size_t n1, size_t n2) {
    const size_t bytes = length * sizeof(float);
    return {reinterpret_cast<char *>(const_cast<float *>(data.data())), n1, n2, bytes, bytes * n1, bytes * n1 * n2};
}

inline std::vector<float> multiply(const System & on, const Matrix & m, const std::vector<float> & in, size_t n) {
    const Packed packed(on.way, m);
    std::vector<float> out(m.rows * n, -1.0f);
    std::vector<uint8_t> scratch(matmul_scratch(on.kernels, packed.view, n, 1));
    matmul(on.kernels, packed.view, columns_at(in, m.columns, n, 1), columns_at(out, m.rows, n, 1), {}, n, scratch.data(), {});
    return out;
}

/// By the scalar set, in its first way.
inline std::vector<float> reference(const Matrix & m, const std::vector<float> & in, size_t n) {
    return multiply({scalar_kernels, m.format, ways_of(scalar_kernels, m.format.source)[0]}, m, in, n);
}

inline std::vector<float> activations(size_t n) {
    ternion::RandomBits random(3, "activations");
    std::vector<float> values(n);
    for (float & value : values) {
        value = static_cast<float>(static_cast<int64_t>(random.next() >> 40) - (1 << 23)) * 0x1p-22f;
    }
    return values;
}

} // namespace ternion::kernels
