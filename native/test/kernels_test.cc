// Every set of kernels against the scalar reference, exact integers, and llama.cpp's own products.
#include "check.h"

#include "engine/random_weights.h"
#include "kernels/cpu/matmul.h"
#include "kernels/formats/pack.h"

#include "ggml-cpu.h"
#include "ggml.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

using namespace ternion::kernels;

namespace {

struct Format {
    SourceFormat source;
    ggml_type type;
};
constexpr Format formats[] = {{SourceFormat::tq1_0, GGML_TYPE_TQ1_0}, {SourceFormat::tq2_0, GGML_TYPE_TQ2_0}, {SourceFormat::q8_0, GGML_TYPE_Q8_0}};

struct Matrix {
    Format format;
    size_t rows, columns;
    std::vector<uint8_t> source;
    std::vector<uint8_t> memory; // packed, with room to align
    uint8_t * packed;

    PackedMatrix view() const { return {format.source, packed, rows, columns}; }
    const uint8_t * row(size_t r) const { return source.data() + r * source_row_bytes(format.source, columns); }
};

Matrix random_matrix(const Format & format, size_t rows, size_t columns, double deviation) {
    Matrix m{format, rows, columns, std::vector<uint8_t>(rows * source_row_bytes(format.source, columns)),
             std::vector<uint8_t>(packed_bytes(format.source, rows, columns) + 64), nullptr};
    ternion::RandomBits random(7, "matrix");
    const auto n_blocks = rows * columns / static_cast<size_t>(ggml_blck_size(format.type));
    ternion::random_weights(format.type, deviation, random, m.source.data(), n_blocks);
    m.packed = reinterpret_cast<uint8_t *>((reinterpret_cast<uintptr_t>(m.memory.data()) + 63) & ~uintptr_t{63});
    pack(format.source, m.source.data(), m.packed, rows, columns, 0, row_groups(rows));
    return m;
}

std::vector<float> multiply(const Kernels & kernels, const Matrix & m, const std::vector<float> & in, size_t n) {
    std::vector<float> out(m.rows * n, -1.0f);
    std::vector<uint8_t> scratch(matmul_scratch(m.view(), n, 1));
    const auto columns = [n](const std::vector<float> & data, size_t length) {
        return Columns{reinterpret_cast<char *>(const_cast<float *>(data.data())), n, 1, length * sizeof(float), 0, 0};
    };
    matmul(kernels, m.view(), columns(in, m.columns), columns(out, m.rows), n, scratch.data(), {});
    return out;
}

std::vector<float> activations(size_t n) {
    ternion::RandomBits random(3, "activations");
    std::vector<float> values(n);
    for (float & value : values) {
        value = static_cast<float>(static_cast<int64_t>(random.next() >> 40) - (1 << 23)) * 0x1p-22f;
    }
    return values;
}

template <typename Each>
void for_each_case(Each each) {
    size_t count = 0;
    const Kernels * const * all = available_kernels(count);
    for (size_t k = 0; k < count; ++k) {
        for (const Format & format : formats) {
            for (const size_t rows : {1, 31, 32, 33, 200}) {
                for (const size_t columns : {256, 1024}) {
                    for (const size_t n : {1, 2, 3, 7, 8, 9, 20}) {
                        each(*all[k], format, rows, columns, n);
                    }
                }
            }
        }
    }
}

void unpacking_gives_what_the_file_says() {
    for (const Format & format : formats) {
        const Matrix m = random_matrix(format, 33, 512, 0.02);
        std::vector<float> expected(m.columns), found(m.columns);
        for (size_t r = 0; r < m.rows; ++r) {
            ggml_get_type_traits(format.type)->to_float(m.row(r), expected.data(), static_cast<int64_t>(m.columns));
            unpack_row(format.source, m.packed, m.columns, r, found.data());
            CHECK(expected == found);
        }
    }
}

// Activations that are whole numbers with a largest magnitude of 127 are rounded to themselves, and a sum of fewer than
// 2^24 is exact in single precision: with scales of 1 every kernel must give the very integer.
void integer_sums_are_exact() {
    for_each_case([](const Kernels & kernels, const Format & format, size_t rows, size_t columns, size_t n) {
        Matrix m = random_matrix(format, rows, columns, 1.0);
        const uint16_t one = 0x3c00;
        const size_t block = static_cast<size_t>(ggml_type_size(format.type));
        const size_t at = format.source == SourceFormat::q8_0 ? 0 : block - 2;
        for (size_t b = 0; b < m.source.size(); b += block) {
            std::memcpy(m.source.data() + b + at, &one, sizeof(one));
        }
        pack(format.source, m.source.data(), m.packed, rows, columns, 0, row_groups(rows));
        ternion::RandomBits random(5, "whole");
        std::vector<float> in(columns * n);
        for (size_t i = 0; i < in.size(); ++i) {
            in[i] = i % 32 == 0 ? 127.0f : static_cast<float>(static_cast<int>(random.next() % 255) - 127);
        }
        const std::vector<float> out = multiply(kernels, m, in, n);
        std::vector<float> weights(columns);
        size_t wrong = 0;
        for (size_t r = 0; r < rows; ++r) {
            unpack_row(format.source, m.packed, columns, r, weights.data());
            for (size_t j = 0; j < n; ++j) {
                int64_t sum = 0;
                for (size_t k = 0; k < columns; ++k) {
                    sum += static_cast<int64_t>(weights[k]) * static_cast<int64_t>(in[j * columns + k]);
                }
                wrong += out[j * rows + r] != static_cast<float>(sum);
            }
        }
        if (wrong) {
            std::fprintf(stderr, "%s %s: %zu of %zu x %zu wrong (%zu columns)\n", kernels.name, ggml_type_name(format.type), wrong, rows, n, columns);
        }
        CHECK(wrong == 0);
    });
}

double furthest(const std::vector<float> & a, const std::vector<float> & b) {
    double difference = 0.0, largest = 0.0;
    for (size_t i = 0; i < a.size(); ++i) {
        difference = std::max(difference, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
        largest = std::max(largest, std::fabs(static_cast<double>(b[i])));
    }
    return difference / largest;
}

void kernels_agree_with_the_reference() {
    for_each_case([](const Kernels & kernels, const Format & format, size_t rows, size_t columns, size_t n) {
        const Matrix m = random_matrix(format, rows, columns, 0.02);
        const std::vector<float> in = activations(columns * n);
        const double error = furthest(multiply(kernels, m, in, n), multiply(scalar_kernels, m, in, n));
        if (error > 1e-6) {
            std::fprintf(stderr, "%s %s %zu x %zu, %zu columns: %g\n", kernels.name, ggml_type_name(format.type), rows, n, columns, error);
        }
        CHECK(error <= 1e-6);
    });
}

// Whether a column is multiplied alone or with others must not show.
void columns_do_not_depend_on_their_neighbours() {
    size_t count = 0;
    const Kernels & kernels = *available_kernels(count)[0];
    for (const Format & format : formats) {
        const Matrix m = random_matrix(format, 64, 1024, 0.02);
        const std::vector<float> in = activations(1024 * 20);
        const std::vector<float> together = multiply(kernels, m, in, 20);
        for (size_t j = 0; j < 20; ++j) {
            const std::vector<float> alone = multiply(kernels, m, {in.begin() + static_cast<long>(j * 1024), in.begin() + static_cast<long>((j + 1) * 1024)}, 1);
            CHECK(std::memcmp(alone.data(), together.data() + j * 64, 64 * sizeof(float)) == 0);
        }
    }
}

void kernels_agree_with_upstream() {
    size_t count = 0;
    const Kernels & kernels = *available_kernels(count)[0];
    for (const Format & format : formats) {
        const Matrix m = random_matrix(format, 64, 1024, 0.02);
        const std::vector<float> in = activations(1024);
        const auto * traits = ggml_get_type_traits_cpu(format.type);
        std::vector<uint8_t> rounded(ggml_row_size(traits->vec_dot_type, 1024));
        ggml_get_type_traits_cpu(traits->vec_dot_type)->from_float(in.data(), rounded.data(), 1024);
        std::vector<float> expected(64);
        for (size_t r = 0; r < 64; ++r) {
            traits->vec_dot(1024, &expected[r], 0, m.row(r), 0, rounded.data(), 0, 1);
        }
        CHECK(furthest(multiply(kernels, m, in, 1), expected) < 1e-5);
    }
}

void what_is_not_finite_stays_in_its_column() {
    for_each_case([](const Kernels & kernels, const Format & format, size_t rows, size_t columns, size_t n) {
        const Matrix m = random_matrix(format, rows, columns, 0.02);
        const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()};
        std::vector<float> in = activations(columns * n);
        in[columns - 1] = bad[n % 3];
        const std::vector<float> out = multiply(kernels, m, in, n);
        size_t wrong = 0;
        for (size_t i = 0; i < out.size(); ++i) {
            wrong += std::isnan(out[i]) != (i < rows);
        }
        CHECK(wrong == 0);
    });
}

void zeros_give_zeros() {
    for_each_case([](const Kernels & kernels, const Format & format, size_t rows, size_t columns, size_t n) {
        const Matrix m = random_matrix(format, rows, columns, 0.02);
        for (const float value : multiply(kernels, m, std::vector<float>(columns * n), n)) {
            CHECK(value == 0.0f);
        }
    });
}

} // namespace

int main() {
    ggml_cpu_init();
    size_t count = 0;
    const Kernels * const * all = available_kernels(count);
    CHECK(count > 0 && all[count - 1] == &scalar_kernels);
    std::printf("kernels:");
    for (size_t k = 0; k < count; ++k) {
        std::printf(" %s", all[k]->name);
    }
    std::printf("\n");
    unpacking_gives_what_the_file_says();
    integer_sums_are_exact();
    kernels_agree_with_the_reference();
    columns_do_not_depend_on_their_neighbours();
    kernels_agree_with_upstream();
    what_is_not_finite_stays_in_its_column();
    zeros_give_zeros();
    return finish_tests();
}
