// STQ1_0 as a type of ggml: the codebook, least-squares quantisation, operations, and how its number in files is told from others.
#include "check.h"

#include "kernels/formats/gguf_types.h"
#include "kernels/formats/stq1_0.h"
#include "engine/random_weights.h"

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "gguf.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

using namespace ternion::formats;
using ternion::RandomBits;
using ternion::kernels::stq1_0_weights;

namespace {

std::vector<float> decoded(const std::vector<uint8_t> & blocks) {
    std::vector<float> out(blocks.size() / sizeof(ternion_stq1_0_block) * 256);
    ternion_stq1_0_to_float(blocks.data(), out.data(), static_cast<int64_t>(out.size()));
    return out;
}

std::vector<uint8_t> encoded(const std::vector<float> & weights, const float * importance = nullptr) {
    std::vector<uint8_t> out(weights.size() / 256 * sizeof(ternion_stq1_0_block));
    const auto n = static_cast<int64_t>(weights.size());
    CHECK(ternion_stq1_0_quantize(weights.data(), out.data(), 1, n, importance) == out.size());
    return out;
}

std::vector<uint8_t> random_blocks(size_t n) {
    std::vector<uint8_t> blocks(n * sizeof(ternion_stq1_0_block));
    RandomBits random(3, "stq1_0");
    ternion::random_weights(GGML_TYPE_STQ1_0, 0.02, random, blocks.data(), n);
    return blocks;
}

std::vector<float> random_floats(size_t n, uint64_t seed) {
    std::vector<float> values(n);
    RandomBits random(seed, "floats");
    for (float & value : values) { // four uniform numbers: near enough to a bell
        value = 0.0f;
        for (int i = 0; i < 4; ++i) {
            value += static_cast<float>(static_cast<int32_t>(random.next() >> 40) - (1 << 23)) * 0x1p-23f;
        }
    }
    return values;
}

double error_of(const std::vector<float> & a, const std::vector<float> & b, const float * importance = nullptr) {
    double sum = 0.0;
    for (size_t i = 0; i < a.size(); ++i) {
        sum += (importance ? static_cast<double>(importance[i]) : 1.0) * std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    }
    return sum;
}

// The codebook as published: two bits per weight, minus 1.
void test_codebook() {
    constexpr uint8_t published[32] = {0xa9, 0x89, 0x29, 0x09, 0xa6, 0x86, 0x26, 0x06, 0x9a, 0x92, 0x1a, 0x12, 0x6a, 0x62, 0x4a, 0x42,
                                       0x01, 0x21, 0x81, 0xa1, 0x04, 0x24, 0x84, 0xa4, 0x10, 0x18, 0x90, 0x98, 0x40, 0x48, 0x60, 0x68};
    for (int code = 0; code < 32; ++code) {
        for (int lane = 0; lane < 4; ++lane) {
            CHECK(static_cast<int8_t>(stq1_0_weights(code) >> (8 * lane)) == (published[code] >> (2 * lane) & 3) - 1);
        }
    }
}

// Where weights lie: one group at a time is set, the others stay at code 0.
void test_layout() {
    for (int g = 0; g < 64; ++g) {
        ternion_stq1_0_block block{};
        block.scale = ggml_fp32_to_fp16(1.0f);
        block.slots[g / 2] = static_cast<uint8_t>(5 << (4 * (g & 1)));
        block.signs[g / 8] = static_cast<uint8_t>(1 << (g % 8));
        float out[256];
        ternion_stq1_0_to_float(&block, out, 256);
        for (int lane = 0; lane < 4; ++lane) {
            const int at = g / 16 * 64 + g % 16 + 16 * lane;
            CHECK(out[at] == static_cast<float>(static_cast<int8_t>(stq1_0_weights(16 + 5) >> (8 * lane))));
            out[at] = static_cast<float>(static_cast<int8_t>(stq1_0_weights(0) >> (8 * lane)));
        }
        for (int k = 0; k < 256; ++k) {
            CHECK(out[k] == static_cast<float>(static_cast<int8_t>(stq1_0_weights(0) >> (8 * (k % 64 / 16)))));
        }
    }
}

void test_quantisation() {
    const std::vector<uint8_t> blocks = random_blocks(40);
    CHECK(encoded(decoded(blocks)) == blocks); // what is of this form already comes back bit for bit
    std::vector<float> importance(40 * 256);
    for (size_t i = 0; i < importance.size(); ++i) {
        importance[i] = 0.1f + static_cast<float>(i % 7);
    }
    CHECK(encoded(decoded(blocks), importance.data()) == blocks);

    const std::vector<float> dense = random_floats(40 * 256, 1);
    const std::vector<float> best = decoded(encoded(dense));
    double power = 0.0;
    for (const float value : dense) {
        power += static_cast<double>(value * value);
    }
    const double epsilon = error_of(dense, best) / power;
    CHECK(epsilon > 0.2 && epsilon < 0.3); // 0.28 for Gaussian weights, whose tails are a little longer
    // No other scale does better with the same signs and zeros, and neither does leaving out another weight.
    for (const float factor : {0.98f, 1.02f}) {
        std::vector<float> other = best;
        for (float & value : other) {
            value *= factor;
        }
        CHECK(error_of(dense, other) > error_of(dense, best));
    }
    const std::vector<float> weighed = decoded(encoded(dense, importance.data()));
    CHECK(error_of(dense, weighed, importance.data()) < error_of(dense, best, importance.data()));

    CHECK(decoded(encoded(std::vector<float>(256, 0.0f))) == std::vector<float>(256, 0.0f));
    std::vector<float> poisoned = dense;
    poisoned.resize(256);
    poisoned[17] = std::numeric_limits<float>::quiet_NaN();
    const std::vector<uint8_t> bad = encoded(poisoned);
    CHECK(std::isnan(ggml_fp16_to_fp32(reinterpret_cast<const ternion_stq1_0_block *>(bad.data())->scale)));
    CHECK(!ggml_validate_row_data(GGML_TYPE_STQ1_0, bad.data(), bad.size()));
    CHECK(ggml_validate_row_data(GGML_TYPE_STQ1_0, blocks.data(), blocks.size()));
}

// Rows, products and experts' products against the same weights in single precision.
void test_operations() {
    constexpr int64_t columns = 512, rows = 70, experts = 3, tokens = 5;
    const std::vector<uint8_t> blocks = random_blocks(columns / 256 * rows * experts);
    const std::vector<float> weights = decoded(blocks);
    ggml_context * ctx = ggml_init({size_t{64} << 20, nullptr, false});
    const auto fill = [](ggml_tensor * t, const void * data) { std::memcpy(t->data, data, ggml_nbytes(t)); };
    ggml_tensor * w[2] = {ggml_new_tensor_3d(ctx, GGML_TYPE_STQ1_0, columns, rows, experts), ggml_new_tensor_3d(ctx, GGML_TYPE_F32, columns, rows, experts)};
    fill(w[0], blocks.data());
    fill(w[1], weights.data());
    ggml_tensor * x = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, columns, 2, tokens);
    fill(x, random_floats(static_cast<size_t>(columns * 2 * tokens), 5).data());
    ggml_tensor * ids = ggml_new_tensor_2d(ctx, GGML_TYPE_I32, 2, tokens);
    const int32_t chosen[2 * tokens] = {0, 2, 1, 0, 2, 1, 0, 1, 2, 0};
    fill(ids, chosen);
    ggml_tensor * which = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, 3);
    const int32_t some[3] = {69, 0, 33};
    fill(which, some);
    ggml_cgraph * graph = ggml_new_graph(ctx);
    ggml_tensor * out[3][2];
    for (int i = 0; i < 2; ++i) {
        ggml_tensor * first = ggml_view_2d(ctx, w[i], columns, rows, w[i]->nb[1], 0);
        out[0][i] = ggml_get_rows(ctx, first, which);
        out[1][i] = ggml_mul_mat(ctx, first, ggml_view_2d(ctx, x, columns, 2 * tokens, x->nb[1], 0));
        out[2][i] = ggml_mul_mat_id(ctx, w[i], x, ids);
        for (auto & pair : out) {
            ggml_build_forward_expand(graph, pair[i]);
        }
    }
    CHECK(ggml_graph_compute_with_ctx(ctx, graph, 2) == GGML_STATUS_SUCCESS);
    for (int op = 0; op < 3; ++op) {
        double error = 0.0, power = 0.0;
        for (int64_t i = 0; i < ggml_nelements(out[op][0]); ++i) {
            const float a = static_cast<float *>(out[op][0]->data)[i], b = static_cast<float *>(out[op][1]->data)[i];
            error += static_cast<double>((a - b) * (a - b));
            power += static_cast<double>(b * b);
        }
        CHECK(power > 0.0 && error / power < (op == 0 ? 1e-12 : 1e-4)); // activations are rounded to 8 bits
    }

    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    CHECK(ggml_backend_dev_supports_op(cpu, out[1][0]));
    ggml_tensor * row = ggml_new_tensor_1d(ctx, GGML_TYPE_STQ1_0, columns);
    CHECK(!ggml_backend_dev_supports_op(cpu, ggml_mul(ctx, x, row))); // as a norm would be
    CHECK(!ggml_backend_dev_supports_op(cpu, ggml_add(ctx, row, row)));
    CHECK(!ggml_backend_dev_supports_op(cpu, ggml_cpy(ctx, x, ggml_new_tensor_3d(ctx, GGML_TYPE_STQ1_0, columns, 2, tokens))));
    ggml_free(ctx);
}

TableRow row(int32_t number, int64_t rows, uint64_t offset) {
    return {"t" + std::to_string(offset), 1024, 1024 * rows, number, offset};
}

std::string resolved(std::vector<TableRow> table, uint64_t data_bytes, FileFacts facts = {}) {
    facts.data_bytes = data_bytes;
    facts.upstream_count = GGML_TYPE_UPSTREAM_COUNT;
    std::string out = resolve_types(table, facts);
    if (out.empty()) {
        for (const TableRow & each : table) {
            out += (out.empty() ? "" : " ") + std::to_string(each.number);
        }
    }
    return out;
}

bool says(const std::string & text, const char * words) {
    return text.find(words) != std::string::npos;
}

void test_numbers() {
    // 1024 weights: STQ1_0 168 bytes, Q2_0 288, NVFP4 576, PrismML's 272, Q2_0C 260.
    const std::string stq = std::to_string(stq1_0_type);
    for (const int32_t number : {40, 42, 43}) {
        CHECK(resolved({row(number, 8, 0)}, 1344) == stq);
        CHECK(resolved({row(number, 8, 0), row(0, 1, 1344)}, 1344 + 4096) == stq + " 0");
    }
    CHECK(resolved({row(42, 8, 0)}, 2304) == "42");
    CHECK(resolved({row(40, 8, 0)}, 4608) == "40");
    CHECK(resolved({row(42, 8, 0), row(42, 8, 1344)}, 1344 + 2304) == stq + " 42");
    CHECK(resolved({row(42, 1, 192), row(42, 1, 0)}, 192 + 168) == stq + " " + stq); // out of order; not filled up at the end
    CHECK(resolved({row(14, 8, 0)}, 6720) == "14");

    CHECK(says(resolved({row(42, 8, 0)}, 2176), "PrismML") && says(resolved({row(42, 8, 0)}, 2176), "which is not supported"));
    CHECK(says(resolved({row(40, 8, 0)}, 2080), "Q2_0C"));
    CHECK(says(resolved({row(42, 8, 0)}, 1300), "takes up 1300 bytes for 8192 weights")); // truncated
    CHECK(says(resolved({row(43, 8, 0)}, 2304), "none of STQ1_0;"));
    CHECK(says(resolved({row(44, 8, 0)}, 1344), "no known type"));
    CHECK(says(resolved({row(stq1_0_type, 8, 0)}, 1344), "no known type")); // our own number is in no file
    CHECK(says(resolved({row(-1, 8, 0)}, 1344), "no known type"));
    CHECK(says(resolved({row(36, 8, 0)}, 2080), "ternion import"));

    // With so coarse an alignment the size says nothing; the rest of the file may.
    FileFacts coarse;
    coarse.alignment = 4096;
    const std::vector<TableRow> small = {row(42, 1, 0), row(0, 1, 4096)};
    CHECK(says(resolved(small, 8192, coarse), "nothing in the file tells"));
    CHECK(resolved({row(42, 1, 0), row(42, 80, 4096)}, 4096 + 16384, coarse) == stq + " " + stq);
    coarse.architecture = "hunyuan-dense";
    CHECK(resolved(small, 8192, coarse) == stq + " 0");
    coarse.architecture = "llama";
    coarse.stq1_0_layout = stq1_0_layout;
    CHECK(resolved(small, 8192, coarse) == stq + " 0");
    coarse.stq1_0_layout = "contiguous";
    CHECK(says(resolved(small, 8192, coarse), "'contiguous', a layout which is not supported"));
}

// Through ggml's writer and reader.
void test_file() {
    ggml_context * ctx = ggml_init({size_t{1} << 20, nullptr, false});
    ggml_tensor * t = ggml_new_tensor_2d(ctx, GGML_TYPE_STQ1_0, 512, 3);
    ggml_set_name(t, "t");
    const std::vector<uint8_t> blocks = random_blocks(6);
    std::memcpy(t->data, blocks.data(), blocks.size());
    gguf_context * out = gguf_init_empty();
    gguf_add_tensor(out, t);
    const std::string path = "/tmp/ternion-stq1_0-test.gguf";
    CHECK(gguf_write_to_file(out, path.c_str(), false));
    ggml_context * data = nullptr;
    gguf_context * in = gguf_init_from_file(path.c_str(), {false, &data});
    CHECK(in && gguf_get_tensor_type(in, 0) == GGML_TYPE_STQ1_0);
    CHECK(data && std::memcmp(ggml_get_tensor(data, "t")->data, blocks.data(), blocks.size()) == 0);
    gguf_free(in);
    ggml_free(data);
    gguf_free(out);
    ggml_free(ctx);
    std::remove(path.c_str());
}

} // namespace

int main() {
    test_codebook();
    test_layout();
    test_quantisation();
    test_operations();
    test_numbers();
    test_file();
    return finish_tests();
}
