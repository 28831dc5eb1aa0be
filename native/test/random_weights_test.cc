#include "check.h"

#include "engine/random_weights.h"

#include "ggml.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

using ternion::can_be_random;
using ternion::random_weights;
using ternion::RandomBits;

namespace {

std::vector<uint8_t> blocks(ggml_type type, double deviation, uint64_t seed, const char * name, size_t n) {
    std::vector<uint8_t> data(n * ggml_type_size(type));
    RandomBits random(seed, name);
    random_weights(type, deviation, random, data.data(), n);
    return data;
}

void every_type_has_the_asked_deviation() {
    int known = 0;
    for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
        const auto type = static_cast<ggml_type>(i);
        if (!can_be_random(type)) {
            continue;
        }
        known++;
        const size_t n_weights = 1 << 20;
        const double asked = 0.02;
        const auto data = blocks(type, asked, 1, "w", n_weights / static_cast<size_t>(ggml_blck_size(type)));
        CHECK(ggml_validate_row_data(type, data.data(), data.size()));
        std::vector<float> values(n_weights);
        if (type == GGML_TYPE_F32) {
            std::memcpy(values.data(), data.data(), data.size());
        } else {
            ggml_get_type_traits(type)->to_float(data.data(), values.data(), static_cast<int64_t>(n_weights));
        }
        double sum = 0.0, squares = 0.0;
        for (const float value : values) {
            sum += static_cast<double>(value);
            squares += static_cast<double>(value) * static_cast<double>(value);
        }
        const double mean = sum / static_cast<double>(n_weights);
        const double deviation = std::sqrt(squares / static_cast<double>(n_weights) - mean * mean);
        const double tolerance = type == GGML_TYPE_MXFP4 ? 0.5 : 0.05; // its scales are powers of two
        if (std::abs(deviation / asked - 1.0) > tolerance || std::abs(mean) > 0.5 * asked) {
            std::fprintf(stderr, "%s: deviation %g times the asked, mean %g\n", ggml_type_name(type), deviation / asked, mean / asked);
        }
        CHECK(std::abs(deviation / asked - 1.0) <= tolerance);
        CHECK(std::abs(mean) <= 0.5 * asked);
    }
    CHECK(known >= 28);
}

void ternary_types_hold_three_values() {
    for (const ggml_type type : {GGML_TYPE_TQ1_0, GGML_TYPE_TQ2_0, GGML_TYPE_Q2_0}) {
        const auto data = blocks(type, 0.5, 7, "t", static_cast<size_t>(256 * 256 / ggml_blck_size(type)));
        std::vector<float> values(256 * 256);
        ggml_get_type_traits(type)->to_float(data.data(), values.data(), 256 * 256);
        int count[3] = {};
        float largest = 0.0f;
        for (const float value : values) {
            largest = std::max(largest, std::abs(value));
        }
        for (const float value : values) {
            CHECK(value == 0.0f || std::abs(value) == largest);
            count[value > 0.0f ? 2 : value < 0.0f ? 0 : 1]++;
        }
        for (const int n : count) {
            CHECK(n > 256 * 256 / 3 * 95 / 100 && n < 256 * 256 / 3 * 105 / 100);
        }
        // Written again from its values it is the same: every byte is the one that the quantiser would choose.
        std::vector<uint8_t> again(data.size());
        ggml_quantize_chunk(type, values.data(), again.data(), 0, 256, 256, nullptr);
        CHECK(again == data);
    }
}

void seeds_and_names_matter() {
    CHECK(blocks(GGML_TYPE_Q4_K, 1.0, 1, "a", 16) == blocks(GGML_TYPE_Q4_K, 1.0, 1, "a", 16));
    CHECK(blocks(GGML_TYPE_Q4_K, 1.0, 1, "a", 16) != blocks(GGML_TYPE_Q4_K, 1.0, 2, "a", 16));
    CHECK(blocks(GGML_TYPE_Q4_K, 1.0, 1, "a", 16) != blocks(GGML_TYPE_Q4_K, 1.0, 1, "b", 16));
    // The generator's own published sequence for seed 1234567.
    RandomBits random(1234567, "");
    CHECK(random.next() == 6457827717110365317ULL);
    CHECK(random.next() == 3203168211198807973ULL);
}

} // namespace

int main() {
    every_type_has_the_asked_deviation();
    ternary_types_hold_three_values();
    seeds_and_names_matter();
    return finish_tests();
}
