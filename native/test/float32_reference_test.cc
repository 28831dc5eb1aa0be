// The float32 reference: products are those of the file's weights with the activations as they are, to the last bit but rounding once.
#include "check.h"

#include "engine/random_weights.h"
#include "kernels/cpu/float32_reference.h"

#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml-cpu.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

using namespace ternion;

namespace {

ggml_backend_dev_t cpu() {
    return ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0);
}

std::vector<float> numbers(size_t n) {
    RandomBits random(3, "activations");
    std::vector<float> values(n);
    for (float & value : values) { // of all 24 bits, so that nothing shorter holds them
        value = static_cast<float>(static_cast<int32_t>(random.next() >> 39) - (1 << 24)) * 0x1p-22f;
    }
    return values;
}

ggml_context_ptr small_context() {
    return ggml_context_ptr(ggml_init({64 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true}));
}

struct Shape {
    ggml_type type;
    std::array<int64_t, 4> weight, in; // ggml's order
    int64_t used = 0;                  // experts that work on a token; 0: MUL_MAT
};

/// The product's result, and in the last three arguments what it was made of.
std::vector<float> product(const Shape & shape, int threads, std::vector<uint8_t> & weights, std::vector<float> & activations, std::vector<int32_t> & chosen) {
    const ggml_context_ptr of_weight = small_context(), of_rest = small_context();
    const auto & [w0, w1, w2, w3] = shape.weight;
    const auto & [i0, i1, i2, i3] = shape.in;
    ggml_tensor * weight = ggml_new_tensor_4d(of_weight.get(), shape.type, w0, w1, w2, w3);
    const ggml_backend_buffer_ptr memory(ggml_backend_alloc_ctx_tensors_from_buft(of_weight.get(), kernels::float32_reference_buffer_type()));
    ggml_tensor * in = ggml_new_tensor_4d(of_rest.get(), GGML_TYPE_F32, i0, i1, i2, i3);
    ggml_tensor * ids = shape.used > 0 ? ggml_new_tensor_2d(of_rest.get(), GGML_TYPE_I32, shape.used, i2) : nullptr;
    ggml_tensor * out = ids ? ggml_mul_mat_id(of_rest.get(), weight, in, ids) : ggml_mul_mat(of_rest.get(), weight, in);
    const ggml_backend_buffer_ptr rest(ggml_backend_alloc_ctx_tensors_from_buft(of_rest.get(), ggml_backend_cpu_buffer_type()));
    CHECK(memory && rest && ggml_backend_dev_supports_op(cpu(), out));

    weights.resize(ggml_nbytes(weight));
    RandomBits random(7, "weights");
    random_weights(shape.type, 1.0, random, weights.data(), weights.size() / ggml_type_size(shape.type));
    activations = numbers(static_cast<size_t>(ggml_nelements(in)));
    chosen.clear();
    for (int64_t i = 0; ids && i < ggml_nelements(ids); ++i) {
        chosen.push_back(static_cast<int32_t>((5 * i + i / 3) % w2)); // not all experts, and some more than once
    }
    ggml_backend_tensor_set(weight, weights.data(), 0, weights.size());
    ggml_backend_tensor_set(in, activations.data(), 0, ggml_nbytes(in));
    if (ids) {
        ggml_backend_tensor_set(ids, chosen.data(), 0, ggml_nbytes(ids));
    }
    // In the format of the file: what was set can be read back.
    std::vector<uint8_t> back(weights.size());
    ggml_backend_tensor_get(weight, back.data(), 0, back.size());
    CHECK(back == weights);

    ggml_cgraph * graph = ggml_new_graph(of_rest.get());
    ggml_build_forward_expand(graph, out);
    const ggml_backend_ptr backend(ggml_backend_cpu_init());
    ggml_backend_cpu_set_n_threads(backend.get(), threads);
    CHECK(ggml_backend_graph_compute(backend.get(), graph) == GGML_STATUS_SUCCESS);
    std::vector<float> result(static_cast<size_t>(ggml_nelements(out)));
    ggml_backend_tensor_get(out, result.data(), 0, ggml_nbytes(out));
    return result;
}

/// Row `r` of matrix `m`, as numbers.
std::vector<float> row_of(const Shape & shape, const std::vector<uint8_t> & weights, int64_t m, int64_t r) {
    const int64_t n = shape.weight[0];
    const uint8_t * data = weights.data() + static_cast<size_t>(m * shape.weight[1] + r) * ggml_row_size(shape.type, n);
    std::vector<float> row(static_cast<size_t>(n));
    if (shape.type == GGML_TYPE_F32) {
        std::memcpy(row.data(), data, row.size() * sizeof(float));
    } else {
        ggml_get_type_traits(shape.type)->to_float(data, row.data(), n);
    }
    return row;
}

void products_are_exact_but_for_one_rounding(const Shape & shape) {
    std::vector<uint8_t> weights;
    std::vector<float> activations;
    std::vector<int32_t> chosen;
    const std::vector<float> found = product(shape, 1, weights, activations, chosen);
    CHECK(found == product(shape, 3, weights, activations, chosen)); // nothing depends on threads
    const auto [n, rows, matrices, outer] = shape.weight;
    const auto [ignored, columns, in2, in3] = shape.in;
    size_t wrong = 0, i = 0;
    const int64_t inner = shape.used > 0 ? shape.used : columns;
    for (int64_t b = 0; b < in2 * in3; ++b) {
        for (int64_t c = 0; c < inner; ++c) {
            // Without ids matrices are shared by neighbours among the activations'.
            const int64_t m = shape.used > 0 ? chosen[static_cast<size_t>(b * inner + c)] : b / in2 / (in3 / outer) * matrices + b % in2 / (in2 / matrices);
            const float * column = activations.data() + (b * columns + c % columns) * n;
            for (int64_t r = 0; r < rows; ++r, ++i) {
                const std::vector<float> row = row_of(shape, weights, m, r);
                long double exact = 0.0L, size = 0.0L;
                for (int64_t k = 0; k < n; ++k) {
                    const long double term = static_cast<long double>(row[static_cast<size_t>(k)]) * static_cast<long double>(column[k]);
                    exact += term;
                    size += std::abs(term);
                }
                // Half a unit in the last place of the result, and what sums in double precision may lose.
                const long double allowed = std::abs(exact) * 0x1.0p-24L + size * 0x1.0p-45L;
                wrong += !(std::abs(static_cast<long double>(found[i]) - exact) <= allowed);
            }
        }
    }
    if (wrong > 0 || i != found.size()) {
        std::fprintf(stderr, "%s, %lld columns: %zu of %zu wrong\n", ggml_type_name(shape.type), static_cast<long long>(columns), wrong, found.size());
    }
    CHECK(wrong == 0 && i == found.size());
}

void only_a_loading_model_gets_its_weights_here() {
    const ggml_context_ptr context = small_context();
    const ggml_backend_buffer_ptr empty(ggml_backend_buft_alloc_buffer(kernels::float32_reference_buffer_type(), 0));
    const auto asked = [&](ggml_tensor * weight, ggml_tensor * op) {
        weight->buffer = empty.get();
        return ggml_backend_dev_supports_op(cpu(), op);
    };
    ggml_tensor * matrix = ggml_new_tensor_2d(context.get(), GGML_TYPE_TQ2_0, 256, 8);
    ggml_tensor * norm = ggml_new_tensor_1d(context.get(), GGML_TYPE_F32, 256);
    ggml_tensor * in = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, 256, 2);
    ggml_tensor * rows = ggml_new_tensor_1d(context.get(), GGML_TYPE_I32, 2);
    ggml_tensor * multiply = ggml_mul_mat(context.get(), matrix, in);
    CHECK(!asked(matrix, multiply));
    kernels::Float32Loading loading;
    CHECK(asked(matrix, multiply));
    CHECK(!asked(matrix, ggml_get_rows(context.get(), matrix, rows))); // an embedding rounds nothing
    CHECK(!asked(norm, ggml_mul(context.get(), in, norm)));
}

} // namespace

int main() {
    ggml_cpu_init();
    kernels::install_float32_reference();
    kernels::install_float32_reference();
    for (const ggml_type type : {GGML_TYPE_TQ1_0, GGML_TYPE_TQ2_0, GGML_TYPE_STQ1_0, GGML_TYPE_Q8_0, GGML_TYPE_Q6_K, GGML_TYPE_Q4_0, GGML_TYPE_Q4_K, GGML_TYPE_F16, GGML_TYPE_F32}) {
        products_are_exact_but_for_one_rounding({type, {512, 37, 1, 1}, {512, 1, 1, 1}});
        products_are_exact_but_for_one_rounding({type, {256, 5, 1, 1}, {256, 11, 1, 1}});
        products_are_exact_but_for_one_rounding({type, {256, 3, 2, 2}, {256, 2, 4, 2}});
        products_are_exact_but_for_one_rounding({type, {256, 9, 7, 1}, {256, 1, 5, 1}, 3}); // slots share an input
        products_are_exact_but_for_one_rounding({type, {256, 9, 7, 1}, {256, 3, 5, 1}, 3}); // each has its own
    }
    products_are_exact_but_for_one_rounding({GGML_TYPE_F32, {13, 1, 1, 1}, {13, 3, 1, 1}}); // fewer rows than threads, no multiple of anything
    only_a_loading_model_gets_its_weights_here();
    return finish_tests();
}
