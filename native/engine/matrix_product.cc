#include "matrix_product.h"

#include "backend.h"

#include "kernels/cpu/buffer_type.h"
#include "kernels/cpu/float32_reference.h"
#include "kernels/cpu/last_level_cache.h"

#include <cctype>
#include <chrono>
#include <cstring>
#include <new>
#include <optional>
#include <stdexcept>
#include <system_error>

namespace ternion {
namespace {

ggml_backend_dev_t cpu() {
    return ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0);
}

ggml_context_ptr make_context(size_t n_tensors, size_t extra_bytes = 0) {
    ggml_context_ptr context(ggml_init({(n_tensors + 1) * ggml_tensor_overhead() + extra_bytes, nullptr, true}));
    if (!context) {
        throw std::bad_alloc();
    }
    return context;
}

ggml_tensor * new_weight(ggml_context * context, const Product & product) {
    return product.experts > 0 ? ggml_new_tensor_3d(context, product.type, product.columns, product.rows, product.experts)
                               : ggml_new_tensor_2d(context, product.type, product.columns, product.rows);
}

ggml_tensor * new_activations(ggml_context * context, const Product & product) {
    return product.experts > 0 ? ggml_new_tensor_3d(context, GGML_TYPE_F32, product.columns, 1, product.tokens)
                               : ggml_new_tensor_2d(context, GGML_TYPE_F32, product.columns, product.tokens);
}

ggml_tensor * new_node(ggml_context * context, ggml_tensor * weight, ggml_tensor * activations, ggml_tensor * routing) {
    return routing ? ggml_mul_mat_id(context, weight, activations, routing) : ggml_mul_mat(context, weight, activations);
}

std::string name_of(ggml_backend_buffer_type_t type) {
    std::string name = ggml_backend_buft_name(type); // "CPU_REPACK", "AMX" …
    if (name.rfind("CPU_", 0) == 0) {
        name.erase(0, 4);
    }
    for (char & c : name) {
        c = c == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    return "upstream-" + name;
}

} // namespace

std::vector<Multiplier> multipliers() {
    std::vector<Multiplier> all;
    const auto extra_types = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(ggml_backend_reg_get_proc_address(ggml_backend_cpu_reg(), "ggml_backend_dev_get_extra_bufts"));
    for (ggml_backend_buffer_type_t * type = extra_types ? extra_types(cpu()) : nullptr; type && *type; ++type) {
        if (*type != kernels::packed_weights_buffer_type() && *type != kernels::float32_reference_buffer_type()) {
            all.push_back({name_of(*type), *type});
        }
    }
    all.push_back({"upstream", ggml_backend_cpu_buffer_type()});
    for (const std::string & name : kernel_names()) {
        all.push_back({name, kernels::packed_weights_buffer_type(), *kernels_by_name(name)});
    }
    return all;
}

// As llama.cpp's loader asks: with a weight that lies in an empty buffer of that type.
bool takes(const Multiplier & multiplier, const Product & product) {
    if (!multiplier.choice.way.empty() && !has_way(multiplier.choice, product.type)) {
        return false;
    }
    std::optional<kernels::Loading> loading;
    if (multiplier.choice.kernels) {
        loading.emplace(*multiplier.choice.kernels);
    }
    const ggml_context_ptr context = make_context(4);
    ggml_tensor * weight = new_weight(context.get(), product);
    ggml_tensor * routing = product.experts > 0 ? ggml_new_tensor_2d(context.get(), GGML_TYPE_I32, product.used, product.tokens) : nullptr;
    const ggml_tensor * node = new_node(context.get(), weight, new_activations(context.get(), product), routing);
    const ggml_backend_buffer_ptr empty(ggml_backend_buft_alloc_buffer(multiplier.memory, 0));
    weight->buffer = empty.get();
    return empty && ggml_backend_dev_supports_op(cpu(), node);
}

// ---- operands -------------------------------------------------------------------------------------------------------

Operands::Operands(const Product & product, const std::vector<float> & activations, const std::vector<std::vector<int32_t>> & routings)
    : context_(make_context(3 + routings.size())) {
    ggml_context * context = context_.get();
    for (ggml_tensor *& each : activations_) {
        each = new_activations(context, product);
    }
    result_ = ggml_new_tensor_2d(context, GGML_TYPE_F32, product.rows, product.outputs());
    for (size_t i = 0; i < routings.size(); ++i) {
        routings_.push_back(ggml_new_tensor_2d(context, GGML_TYPE_I32, product.used, product.tokens));
    }
    buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(context, ggml_backend_cpu_buffer_type()));
    if (!buffer_) {
        throw std::bad_alloc();
    }
    for (ggml_tensor * each : activations_) {
        ggml_backend_tensor_set(each, activations.data(), 0, ggml_nbytes(each));
    }
    for (size_t i = 0; i < routings.size(); ++i) {
        ggml_backend_tensor_set(routings_[i], routings[i].data(), 0, ggml_nbytes(routings_[i]));
    }
}

ggml_tensor * Operands::node(ggml_context * context, ggml_tensor * weight, size_t i) const {
    ggml_tensor * node = new_node(context, weight, activations_[i % 2], routings_.empty() ? nullptr : routings_[i % routings_.size()]);
    node->data = result_->data;
    node->buffer = result_->buffer;
    return node;
}

// ---- weights --------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<Weights>> Weights::make(const Multiplier & multiplier, const Product & product, int64_t copies, const std::vector<uint8_t> & file, const std::atomic<bool> & cancel) {
    std::optional<kernels::Loading> loading;
    if (multiplier.choice.kernels) {
        const size_t bytes = file.size() * static_cast<size_t>(copies);
        loading.emplace(*multiplier.choice.kernels, kernels::LoadingOptions{{}, multiplier.choice.way, kernels::stay_in_cache(bytes), static_cast<size_t>(default_threads())});
    }
    std::unique_ptr<Weights> made(new Weights);
    made->context_ = make_context(static_cast<size_t>(copies));
    for (int64_t i = 0; i < copies; ++i) {
        made->copies_.push_back(new_weight(made->context_.get(), product));
    }
    made->bytes_ = ggml_backend_buft_get_alloc_size(multiplier.memory, made->copies_.front());
    made->buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(made->context_.get(), multiplier.memory));
    if (!made->buffer_) {
        return Error{ErrorCode::out_of_memory, "no room for " + std::to_string(copies) + " copies of a matrix of " + std::to_string(made->bytes_) + " bytes"};
    }
    ggml_backend_buffer_set_usage(made->buffer_.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    for (ggml_tensor * copy : made->copies_) {
        if (cancel) {
            return Error{ErrorCode::aborted, "measuring was aborted"};
        }
        ggml_backend_tensor_set(copy, file.data(), 0, file.size());
    }
    return made;
}

// ---- runner ---------------------------------------------------------------------------------------------------------

CpuRunner::CpuRunner(int n_threads) {
    ggml_threadpool_params params = ggml_threadpool_params_default(n_threads);
    params.poll = 1; // as ThreadBudget's, which models compute on
    pool_.reset(ggml_threadpool_new(&params));
    if (!pool_) {
        throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again), std::to_string(n_threads) + " threads to compute on");
    }
    backend_.reset(ggml_backend_dev_init(cpu(), nullptr));
    if (!backend_) {
        throw std::runtime_error("the CPU backend does not start");
    }
    ggml_backend_cpu_set_threadpool(backend_.get(), pool_.get());
    ggml_backend_cpu_set_n_threads(backend_.get(), n_threads);
}

Result<double> CpuRunner::run(const Operands & operands, const Weights & weights, size_t first, size_t count, const std::atomic<bool> & cancel) {
    const size_t most_tensors = count + weights.n_copies() + operands.n_routings() + 1; // nodes, or leafs
    const ggml_context_ptr context = make_context(count, ggml_graph_overhead_custom(most_tensors, false));
    ggml_cgraph * graph = ggml_new_graph_custom(context.get(), most_tensors, false);
    for (size_t i = first; i < first + count; ++i) {
        ggml_build_forward_expand(graph, operands.node(context.get(), weights.copy(i), i / weights.n_copies()));
    }
    // ggml only reads through the pointer.
    ggml_backend_cpu_set_abort_callback(
        backend_.get(), [](void * flag) { return static_cast<const std::atomic<bool> *>(flag)->load(std::memory_order_relaxed); }, const_cast<std::atomic<bool> *>(&cancel));
    const auto start = std::chrono::steady_clock::now();
    const ggml_status status = ggml_backend_graph_compute(backend_.get(), graph);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    ggml_backend_cpu_set_abort_callback(backend_.get(), nullptr, nullptr);
    if (status == GGML_STATUS_ABORTED) {
        return Error{ErrorCode::aborted, "measuring was aborted"};
    }
    if (status != GGML_STATUS_SUCCESS) {
        return Error{ErrorCode::internal, std::string("the product cannot be computed: ") + ggml_status_to_string(status)};
    }
    return seconds;
}

} // namespace ternion
