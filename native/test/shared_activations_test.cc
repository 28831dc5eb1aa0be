// Activations that several matrices of a graph multiply: made ready once, and again as soon as anything has changed.
#include "check.h"
#include "matrices.h"

#include "kernels/cpu/buffer_type.h"

#include "ggml-cpp.h"
#include "ggml-cpu.h"

#include <memory>
#include <optional>

using namespace ternion::kernels;

namespace {

constexpr int64_t rows = 96, columns = 512, experts = 4, used = 2;

ggml_context_ptr make_context() {
    return ggml_context_ptr(ggml_init({64 * ggml_tensor_overhead() + 4 * ggml_graph_overhead(), nullptr, true}));
}

struct FreePool {
    void operator()(ggml_threadpool * pool) const { ggml_threadpool_free(pool); }
};

/// A backend with a pool of its own.
struct Runner {
    std::unique_ptr<ggml_threadpool, FreePool> pool;
    ggml_backend_ptr backend{ggml_backend_cpu_init()};

    explicit Runner(int n_threads) {
        ggml_threadpool_params params = ggml_threadpool_params_default(n_threads);
        pool.reset(ggml_threadpool_new(&params));
        ggml_backend_cpu_set_n_threads(backend.get(), n_threads);
        ggml_backend_cpu_set_threadpool(backend.get(), pool.get());
    }
    ~Runner() { backend.reset(); }
};

/// Two matrices (or mixtures of experts) of each way of each set of kernels, and what they are multiplied with.
struct Model {
    ggml_context_ptr context = make_context();
    ggml_backend_buffer_ptr weight_memory, memory;
    ggml_tensor * first;
    ggml_tensor * second;
    ggml_tensor * in;
    ggml_tensor * other;
    ggml_tensor * ids;

    Model(const System & on, int64_t n, bool mixture) {
        Loading loading(on.kernels, {{}, on.way.name, true, 1});
        const auto weight = [&] {
            return mixture ? ggml_new_tensor_3d(context.get(), on.format.type, columns, rows, experts) : ggml_new_tensor_2d(context.get(), on.format.type, columns, rows);
        };
        first = weight();
        second = weight();
        weight_memory.reset(ggml_backend_alloc_ctx_tensors_from_buft(context.get(), packed_weights_buffer_type()));
        const Matrix a = random_matrix(on.format, rows, columns, mixture ? experts : 1);
        Matrix b = a;
        set_scales(b, [] { return 0x2400; });
        ggml_backend_tensor_set(first, a.source.data(), 0, a.source.size());
        ggml_backend_tensor_set(second, b.source.data(), 0, b.source.size());
        in = mixture ? ggml_new_tensor_3d(context.get(), GGML_TYPE_F32, columns, 1, n) : ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, columns, n);
        other = ggml_new_tensor_1d(context.get(), GGML_TYPE_F32, 1);
        ids = mixture ? ggml_new_tensor_2d(context.get(), GGML_TYPE_I32, used, n) : nullptr;
    }

    ggml_tensor * product(ggml_tensor * weight, ggml_tensor * with) const {
        return ids ? ggml_mul_mat_id(context.get(), weight, with, ids) : ggml_mul_mat(context.get(), weight, with);
    }
    void allocate() {
        memory.reset(ggml_backend_alloc_ctx_tensors_from_buft(context.get(), ggml_backend_cpu_buffer_type()));
    }
    void fill(float factor) const {
        std::vector<float> values = activations(static_cast<size_t>(ggml_nelements(in)));
        for (size_t i = 0; i < values.size(); ++i) {
            values[i] *= i % 3 == 0 ? factor : 1.0f;
        }
        ggml_backend_tensor_set(in, values.data(), 0, ggml_nbytes(in));
        if (ids) {
            std::vector<int32_t> chosen;
            for (int64_t i = 0; i < ggml_nelements(ids); ++i) {
                chosen.push_back(static_cast<int32_t>(i * 3 % experts));
            }
            ggml_backend_tensor_set(ids, chosen.data(), 0, ggml_nbytes(ids));
        }
    }
};

std::vector<float> values_of(const ggml_tensor * t) {
    std::vector<float> values(static_cast<size_t>(ggml_nelements(t)));
    ggml_backend_tensor_get(t, values.data(), 0, ggml_nbytes(t));
    return values;
}

void compute(const Runner & runner, ggml_context * context, const std::vector<ggml_tensor *> & nodes) {
    ggml_cgraph * graph = ggml_new_graph(context);
    for (ggml_tensor * node : nodes) {
        ggml_build_forward_expand(graph, node);
    }
    CHECK(ggml_backend_graph_compute(runner.backend.get(), graph) == GGML_STATUS_SUCCESS);
}

/// What a matrix gives in a graph of its own.
std::vector<float> alone(const Runner & runner, const Model & model, ggml_tensor * node) {
    const ggml_context_ptr context = make_context();
    compute(runner, context.get(), {node});
    return values_of(node);
}

template <typename Each>
void for_each_case(Each each) {
    for_each_system([&](const System & on) {
        for (const bool mixture : {false, true}) {
            for (const int n_threads : {1, 3}) {
                const Runner runner(n_threads);
                for (const int64_t n : {1, 2, 9}) {
                    each(on, runner, n, mixture);
                }
            }
        }
    });
}

// Graph after graph at the same addresses: the second one finds memory that the first one made.
void several_matrices_multiply_the_same() {
    for_each_case([](const System & on, const Runner & runner, int64_t n, bool mixture) {
        Model model(on, n, mixture);
        ggml_tensor * const a = model.product(model.first, model.in);
        ggml_tensor * const b = model.product(model.second, model.in);
        ggml_tensor * const c = model.product(model.first, model.in);
        model.allocate();
        for (const float factor : {1.0f, -2.0f, 0.25f}) {
            model.fill(factor);
            const ggml_context_ptr context = make_context();
            compute(runner, context.get(), {a, b, c});
            const std::vector<float> first = values_of(a), second = values_of(b), third = values_of(c);
            CHECK(first == third && first != second);
            CHECK(first == alone(runner, model, a) && second == alone(runner, model, b));
        }
    });
}

// The same tensor in the next graph, where it comes later, holds something else.
void the_next_graph_begins_anew() {
    for_each_case([](const System & on, const Runner & runner, int64_t n, bool mixture) {
        Model model(on, n, mixture);
        ggml_tensor * const product = model.product(model.first, model.in);
        ggml_tensor * const earlier = ggml_sqr(model.context.get(), model.other);
        model.allocate();
        const ggml_context_ptr context = make_context();
        for (int i = 0; i < 2; ++i) { // the second time there is memory for many columns
            model.fill(1.0f);
            compute(runner, context.get(), {product});
        }
        const std::vector<float> before = values_of(product);
        model.fill(3.0f);
        compute(runner, context.get(), {earlier, product});
        const std::vector<float> after = values_of(product);
        CHECK(before != after && after == alone(runner, model, product));
    });
}

// Activations that a node has written over in between are made ready again.
void what_was_written_over_is_not_used() {
    for_each_case([](const System & on, const Runner & runner, int64_t n, bool mixture) {
        Model model(on, n, mixture);
        ggml_tensor * const before = model.product(model.first, model.in);
        ggml_tensor * const changed = ggml_sqr_inplace(model.context.get(), ggml_view_1d(model.context.get(), model.in, columns / 2, columns / 4 * sizeof(float)));
        ggml_tensor * const after = model.product(model.first, model.in);
        model.allocate();
        for (int i = 0; i < 2; ++i) {
            model.fill(1.0f);
            const ggml_context_ptr context = make_context();
            compute(runner, context.get(), {before, changed, after});
            const std::vector<float> first = values_of(before), second = values_of(after);
            CHECK(first != second && second == alone(runner, model, after));
        }
    });
}

// A mixture's choice of experts is an input as well.
void another_choice_of_experts_is_noticed() {
    for_each_system([](const System & on) {
        const Runner runner(2);
        for (const int64_t n : {1, 9}) {
            Model model(on, n, true);
            ggml_tensor * const before = model.product(model.first, model.in);
            ggml_tensor * const swapped = ggml_new_tensor_2d(model.context.get(), GGML_TYPE_I32, used, n);
            ggml_tensor * const chosen = ggml_cpy(model.context.get(), swapped, model.ids);
            ggml_tensor * const after = model.product(model.first, model.in);
            model.allocate();
            const std::vector<int32_t> others(static_cast<size_t>(used * n), 1);
            for (int i = 0; i < 2; ++i) {
                model.fill(1.0f);
                ggml_backend_tensor_set(swapped, others.data(), 0, ggml_nbytes(swapped));
                const ggml_context_ptr context = make_context();
                compute(runner, context.get(), {before, chosen, after});
                const std::vector<float> first = values_of(before), second = values_of(after);
                CHECK(first != second && second == alone(runner, model, after));
            }
        }
    });
}

// Formats round in blocks of their own: what is ready for one is not for another. And a pool computes graphs with fewer of its threads.
void matrices_of_two_formats_multiply_the_same() {
    for_each_system([](const System & on) {
        for (const Format & format : formats) {
            const System beside{on.kernels, format, ways_of(on.kernels, format.source).back()};
            if (format.source == on.format.source) {
                continue;
            }
            Runner runner(3);
            for (const int64_t n : {1, 9}) {
                Model a(on, n, false), b(beside, n, false);
                ggml_tensor * const first = a.product(a.first, a.in);
                ggml_tensor * const other = a.product(b.first, a.in);
                ggml_tensor * const again = a.product(a.first, a.in);
                a.allocate();
                for (const int n_threads : {3, 1, 3, 2}) {
                    ggml_backend_cpu_set_n_threads(runner.backend.get(), n_threads);
                    a.fill(static_cast<float>(n_threads));
                    const ggml_context_ptr context = make_context();
                    compute(runner, context.get(), {first, other, again});
                    const std::vector<float> found = values_of(first), beside_it = values_of(other);
                    CHECK(found == values_of(again));
                    CHECK(found == alone(runner, a, first) && beside_it == alone(runner, a, other));
                }
            }
        }
    });
}

void scribble(ggml_tensor * out, const ggml_tensor *, int ith, int, void * at) {
    if (ith == 0) {
        *static_cast<float *>(out->data) = 0.0f;
        static_cast<float *>(at)[columns - 1] += 1000.0f;
    }
}

// A change that no node tells of is not noticed: activations are made ready once indeed.
void they_are_made_ready_once() {
    for_each_case([](const System & on, const Runner & runner, int64_t n, bool mixture) {
        if (mixture && n == 2) { // few products, of tokens that differ from expert to expert: made ready as it goes
            return;
        }
        Model model(on, n, mixture);
        ggml_tensor * const before = model.product(model.first, model.in);
        model.memory.reset(ggml_backend_alloc_ctx_tensors_from_buft(model.context.get(), ggml_backend_cpu_buffer_type()));
        const ggml_context_ptr rest = make_context();
        ggml_tensor * const secret = ggml_map_custom1(rest.get(), model.other, scribble, 1, model.in->data);
        ggml_tensor * const after = model.ids ? ggml_mul_mat_id(rest.get(), model.first, model.in, model.ids) : ggml_mul_mat(rest.get(), model.first, model.in);
        const ggml_backend_buffer_ptr memory(ggml_backend_alloc_ctx_tensors_from_buft(rest.get(), ggml_backend_cpu_buffer_type()));
        for (int i = 0; i < 2; ++i) {
            model.fill(1.0f);
            const ggml_context_ptr context = make_context();
            compute(runner, context.get(), {before, secret, after});
        }
        // The first time there was no memory yet for many columns.
        CHECK(values_of(before) == values_of(after));
        CHECK(alone(runner, model, after) != values_of(before));
    });
}

} // namespace

int main() {
    ggml_cpu_init();
    install_packed_weights();
    several_matrices_multiply_the_same();
    the_next_graph_begins_anew();
    what_was_written_over_is_not_used();
    another_choice_of_experts_is_noticed();
    matrices_of_two_formats_multiply_the_same();
    they_are_made_ready_once();
    return finish_tests();
}
