// Every set of kernels against the scalar reference, exact integers, and llama.cpp's own products.
#include "check.h"
#include "matrices.h"

#include "ggml-cpu.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

using namespace ternion::kernels;

namespace {

template <typename Each>
void for_each_case(Each each) {
    for_each_system([&](const System & on) {
        for (const size_t rows : {1, 31, 32, 33, 200}) {
            for (const size_t columns : {256, 1024}) {
                for (const size_t n : {1, 2, 3, 7, 8, 9, 20}) {
                    each(on, rows, columns, n);
                }
            }
        }
    });
}

void unpacking_gives_what_the_file_says() {
    for_each_system([](const System & on) {
        const Matrix m = random_matrix(on.format, 33, 512);
        const Packed packed(on.way, m);
        CHECK(packed.whole);
        std::vector<float> expected(m.columns), found(m.columns);
        for (size_t r = 0; r < m.rows; ++r) {
            ggml_get_type_traits(on.format.type)->to_float(m.row(r), expected.data(), static_cast<int64_t>(m.columns));
            unpack_row(packed.view.layout, packed.view.data, m.rows, m.columns, r, found.data());
            CHECK(expected == found);
        }
        const CodedKernels * coded = coded_kernels(on.kernels, packed.view.layout);
        for (size_t at = 0; coded && at < packed_bytes(packed.view.layout, m.rows, m.columns); at += tile_bytes(packed.view.layout)) {
            alignas(64) TernaryTile tile, expanded;
            coded->expand(packed.view.data + at, tile);
            expand(packed.view.layout, packed.view.data + at, expanded);
            CHECK(std::memcmp(&tile, &expanded, sizeof(tile)) == 0);
        }
    });
}

// Activations that are whole numbers with a largest magnitude of 127 are rounded to themselves, and a sum of fewer than
// 2^24 is exact in single precision: with scales of 1 every kernel must give the very integer.
void check_integers(const System & on, const Matrix & m, const std::vector<float> & in, size_t n) {
    const std::vector<float> out = multiply(on, m, in, n);
    std::vector<float> weights(m.columns);
    size_t wrong = 0;
    for (size_t r = 0; r < m.rows; ++r) {
        ggml_get_type_traits(m.format.type)->to_float(m.row(r), weights.data(), static_cast<int64_t>(m.columns));
        for (size_t j = 0; j < n; ++j) {
            int64_t sum = 0;
            for (size_t k = 0; k < m.columns; ++k) {
                sum += static_cast<int64_t>(weights[k]) * static_cast<int64_t>(in[j * m.columns + k]);
            }
            wrong += out[j * m.rows + r] != static_cast<float>(sum);
        }
    }
    if (wrong) {
        std::fprintf(stderr, "%s: %zu of %zu x %zu wrong (%zu columns)\n", on.name().c_str(), wrong, m.rows, n, m.columns);
    }
    CHECK(wrong == 0);
}

void integer_sums_are_exact() {
    for_each_case([](const System & on, size_t rows, size_t columns, size_t n) {
        Matrix m = random_matrix(on.format, rows, columns);
        set_scales(m, [] { return 0x3c00; }); // 1
        for (size_t at = 192; on.format.source == SourceFormat::q6_k && at < m.source.size(); at += at % 210 == 207 ? 195 : 1) {
            m.source[at] = static_cast<uint8_t>(at % 4 - 1); // factors that keep sums below 2^24
        }
        ternion::RandomBits random(5, "whole");
        std::vector<float> in(columns * n);
        for (size_t i = 0; i < in.size(); ++i) {
            in[i] = i % 32 == 0 ? 127.0f : static_cast<float>(static_cast<int>(random.next() % 255) - 127);
        }
        check_integers(on, m, in, n);
    });
}

// Sums as large as they can be: weights all alike or of any bits, which in TQ2_0 includes a code of 3 that no quantiser writes,
// and activations of the largest magnitude, with signs alike, alternating, or those of the first row's weights.
void the_largest_sums_are_exact() {
    constexpr size_t rows = 40;
    for_each_system([](const System & on) {
        const bool six_bits = on.format.source == SourceFormat::q6_k;
        // Those of six bits are beyond what single precision holds: with one block they are rounded, but only once.
        const size_t columns = six_bits ? 256 : 512;
        for (const int fill : {0x00, 0x55, 0xaa, 0xff, 0x7f, 0x80, -1}) {
            Matrix m{on.format, rows, columns, 1, std::vector<uint8_t>(rows * source_row_bytes(on.format.source, columns), static_cast<uint8_t>(fill))};
            if (fill < 0) {
                ternion::RandomBits(11, "any").fill(m.source.data(), m.source.size());
            }
            set_scales(m, [] { return 0x3c00; });
            for (size_t r = 0; six_bits && r < rows; ++r) { // the factors furthest from zero
                std::memset(m.source.data() + 210 * r + 192, r % 2 ? 127 : -128, 16);
            }
            const bool has_threes = on.format.source == SourceFormat::tq2_0 && (fill < 0 || fill == 0xff || fill == 0x7f);
            CHECK(Packed(on.way, m).whole == !(has_threes && on.way.layout == Layout::quints));
            if (has_threes && on.way.layout == Layout::quints) {
                continue;
            }
            std::vector<float> weights(columns);
            ggml_get_type_traits(on.format.type)->to_float(m.row(0), weights.data(), static_cast<int64_t>(columns));
            for (size_t n = 1; n <= panel_columns + 1; ++n) {
                std::vector<float> in(columns * n);
                for (size_t i = 0; i < in.size(); ++i) {
                    const size_t kind = (n + i / columns) % 5, k = i % columns;
                    const bool minus = kind == 0 ? false : kind == 1 ? true : kind == 2 ? k % 2 != 0 : (kind == 3) == (weights[k] < 0.0f);
                    in[i] = minus ? -127.0f : 127.0f;
                }
                check_integers(on, m, in, n);
            }
        }
    });
}

// Codes, their sum and their scale, bit for bit: ties, both signs of the largest magnitude, numbers near the ends of the range.
void activations_are_rounded_alike() {
    constexpr size_t n = 256;
    constexpr float tiny = std::numeric_limits<float>::denorm_min(), huge = std::numeric_limits<float>::max();
    std::vector<std::vector<float>> blocks;
    std::vector<float> ties(n);
    for (size_t i = 0; i < n; ++i) {
        ties[i] = static_cast<float>(i % 254) - 126.5f;
    }
    for (const float most : {127.0f, -127.0f}) {
        ties[0] = most; // and in each half a block for quantise32, with the other sign behind it
        ties[n / 2] = most;
        ties[n / 2 + 20] = -most;
        blocks.push_back(ties);
    }
    const std::vector<float> plain = activations(n);
    for (const float scale : {1.0f, 3e4f, 1e7f, huge / 2, 1e-37f, 1e-38f, 1e-41f, tiny * 300, 0.0f}) {
        blocks.push_back(plain);
        for (float & value : blocks.back()) {
            value *= scale;
        }
    }
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
        for (const size_t at : {0, 5, 31, 255}) {
            blocks.push_back(plain);
            blocks.back()[at] = bad;
        }
    }
    size_t count = 0;
    const Kernels * const * all = available_kernels(count);
    for (size_t k = 0; k < count; ++k) {
        for (const std::vector<float> & block : blocks) {
            for (size_t at = 0; at <= n; at += 32) { // the last is the whole block
                const auto rounded = [&](const Kernels & kernels) {
                    struct { int8_t codes[n]; float scale; int32_t sum; } out{};
                    at < n ? kernels.quantise32(block.data() + at, out.codes, out.scale, out.sum) : kernels.quantise256(block.data(), out.codes, out.scale, out.sum);
                    return out;
                };
                const auto found = rounded(*all[k]), expected = rounded(scalar_kernels);
                CHECK(std::memcmp(found.codes, expected.codes, n) == 0 && found.sum == expected.sum);
                CHECK(found.scale == expected.scale || (std::isnan(found.scale) && std::isnan(expected.scale)));
            }
        }
    }
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
    for_each_case([](const System & on, size_t rows, size_t columns, size_t n) {
        const Matrix m = random_matrix(on.format, rows, columns);
        const std::vector<float> in = activations(columns * n);
        const double error = furthest(multiply(on, m, in, n), reference(m, in, n));
        if (error > 1e-6) {
            std::fprintf(stderr, "%s %zu x %zu, %zu columns: %g\n", on.name().c_str(), rows, n, columns, error);
        }
        CHECK(error <= 1e-6);
    });
}

// Whether a column is multiplied alone or with others must not show, nor in which way.
void columns_do_not_depend_on_their_neighbours() {
    constexpr size_t rows = 200, columns = 1024, n = 20;
    for_each_system([](const System & on) {
        const Matrix m = random_matrix(on.format, rows, columns);
        const std::vector<float> in = activations(columns * n);
        const std::vector<float> together = multiply(on, m, in, n);
        for (size_t j = 0; j < n; ++j) {
            const std::vector<float> alone = multiply(on, m, {in.begin() + static_cast<long>(j * columns), in.begin() + static_cast<long>((j + 1) * columns)}, 1);
            CHECK(std::memcmp(alone.data(), together.data() + j * rows, rows * sizeof(float)) == 0);
        }
        const System first{on.kernels, on.format, ways_of(on.kernels, on.format.source)[0]};
        CHECK(together == multiply(first, m, in, n));
    });
}

void kernels_agree_with_upstream() {
    size_t count = 0;
    const Kernels & kernels = *available_kernels(count)[0];
    for_each_system([&](const System & on) {
        if (&on.kernels != &kernels) {
            return;
        }
        const Matrix m = random_matrix(on.format, 64, 1024);
        const std::vector<float> in = activations(1024);
        const auto * traits = ggml_get_type_traits_cpu(on.format.type);
        std::vector<uint8_t> rounded(ggml_row_size(traits->vec_dot_type, 1024));
        ggml_get_type_traits_cpu(traits->vec_dot_type)->from_float(in.data(), rounded.data(), 1024);
        std::vector<float> expected(64);
        for (size_t r = 0; r < 64; ++r) {
            traits->vec_dot(1024, &expected[r], 0, m.row(r), 0, rounded.data(), 0, 1);
        }
        CHECK(furthest(multiply(on, m, in, 1), expected) < 1e-5);
    });
}

void what_is_not_finite_stays_in_its_column() {
    for_each_case([](const System & on, size_t rows, size_t columns, size_t n) {
        const Matrix m = random_matrix(on.format, rows, columns);
        const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()};
        std::vector<float> in = activations(columns * n);
        in[columns - 1] = bad[n % 3];
        const std::vector<float> out = multiply(on, m, in, n);
        size_t wrong = 0;
        for (size_t i = 0; i < out.size(); ++i) {
            wrong += std::isnan(out[i]) != (i < rows);
        }
        CHECK(wrong == 0);
    });
}

void zeros_give_zeros() {
    for_each_case([](const System & on, size_t rows, size_t columns, size_t n) {
        const Matrix m = random_matrix(on.format, rows, columns);
        for (const float value : multiply(on, m, std::vector<float>(columns * n), n)) {
            CHECK(value == 0.0f);
        }
    });
}

// A case is tried once; what was found out can be told to another process, which then does not try.
void what_was_timed_is_remembered() {
    Timings & timings = Timings::instance();
    TrialMemory memory;
    for_each_system([&](const System & on) {
        const auto ways = ways_of(on.kernels, on.format.source);
        for (const size_t n_threads : {1, 2}) {
            const TimedCase small{on.kernels, on.format.source, 96, 512, true, n_threads};
            const Way & found = timings.fastest(small, memory);
            CHECK(&found >= ways.data() && &found < ways.data() + ways.size());
            CHECK(&timings.fastest(small, memory) == &found);
        }
        const std::string key = std::string(on.kernels.name) + " " + ggml_type_name(on.format.type) + " 64x256 memory 3";
        timings.restore("nonsense\n" + key + " " + ways.back().name + "\n" + key + " of-the-past\n");
        memory.reset();
        CHECK(&timings.fastest({on.kernels, on.format.source, 64, 256, false, 3}, memory) == &ways.back() && !memory);
    });
    CHECK(timings.save().find("64x256 memory 3") != std::string::npos);
}

} // namespace

// Arguments: the sets that this processor has to have, in order. Without any, whatever it has is tested.
int main(int argc, char ** argv) {
    ggml_cpu_init();
    size_t count = 0;
    const Kernels * const * all = available_kernels(count);
    CHECK(count > 0 && all[count - 1] == &scalar_kernels);
    std::printf("kernels:");
    for (size_t k = 0; k < count; ++k) {
        std::printf(" %s", all[k]->name);
    }
    std::printf("\n");
    const std::vector<std::string> wanted(argv + 1, argv + argc);
    CHECK(wanted.empty() || std::equal(wanted.begin(), wanted.end(), all, all + count, [](const std::string & name, const Kernels * set) { return name == set->name; }));
    unpacking_gives_what_the_file_says();
    integer_sums_are_exact();
    the_largest_sums_are_exact();
    activations_are_rounded_alike();
    kernels_agree_with_the_reference();
    columns_do_not_depend_on_their_neighbours();
    kernels_agree_with_upstream();
    what_is_not_finite_stays_in_its_column();
    zeros_give_zeros();
    what_was_timed_is_remembered();
    return finish_tests();
}
