#include "packed_tensor.h"

#include "shared_activations.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

namespace ternion::kernels {
namespace {

Columns columns_of(const ggml_tensor * t) {
    return {static_cast<char *>(t->data), static_cast<size_t>(t->ne[1]), static_cast<size_t>(t->ne[2]), t->nb[1], t->nb[2], t->nb[3]};
}

/// The experts that a MUL_MAT_ID asks for.
Routing routing_of(const ggml_tensor * op) {
    if (op->op == GGML_OP_MUL_MAT) {
        return {};
    }
    const ggml_tensor * ids = op->src[2];
    return {static_cast<const char *>(ids->data), static_cast<size_t>(ids->ne[0]), ids->nb[0], ids->nb[1], static_cast<size_t>(op->src[1]->ne[1])};
}

} // namespace

bool format_of(ggml_type type, SourceFormat & format) {
    switch (type) {
        case GGML_TYPE_TQ1_0:  format = SourceFormat::tq1_0; return true;
        case GGML_TYPE_TQ2_0:  format = SourceFormat::tq2_0; return true;
        case GGML_TYPE_Q8_0:   format = SourceFormat::q8_0; return true;
        case GGML_TYPE_STQ1_0: format = SourceFormat::stq1_0; return true;
        case GGML_TYPE_Q6_K:   format = SourceFormat::q6_k; return true;
        default:               return false;
    }
}

bool source_format(const ggml_tensor * weight, SourceFormat & format) {
    return format_of(weight->type, format) && weight->ne[3] == 1;
}

PackedTensor::PackedTensor(const Kernels & kernels, SourceFormat format, const ggml_tensor * weight, const Way & way)
    : kernels_(kernels), format_(format), matrix_{way.layout, static_cast<const uint8_t *>(weight->data), static_cast<size_t>(weight->ne[1]),
                                                  static_cast<size_t>(weight->ne[0]), static_cast<size_t>(weight->ne[2]), way.look_up} {}

bool PackedTensor::work_size(int n_threads, const ggml_tensor * op, size_t & size) {
    if (!takes(op)) {
        return false;
    }
    size = matmul_scratch(kernels_, matrix_, static_cast<size_t>(ggml_nrows(op)), static_cast<size_t>(n_threads));
    return true;
}

bool PackedTensor::compute_forward(ggml_compute_params * params, ggml_tensor * op) {
    if (!takes(op)) {
        return false;
    }
    const Operation operation(op, params->threadpool);
    const Worker worker{static_cast<size_t>(params->ith), static_cast<size_t>(params->nth), params->threadpool, shared_activations(params->threadpool), &operation};
    matmul(kernels_, matrix_, columns_of(op->src[1]), columns_of(op), routing_of(op), static_cast<size_t>(ggml_nrows(op)), params->wdata, worker);
    return true;
}

// Packing reads and writes memory at its own speed, so a few threads are enough.
bool PackedTensor::pack_all(const uint8_t * source, uint8_t * packed) const {
    constexpr size_t most_threads = 8, worth_a_thread = 64;
    const size_t per_matrix = row_groups(matrix_.rows), groups = per_matrix * matrix_.count;
    const size_t source_bytes = matrix_.rows * source_row_bytes(format_, matrix_.columns);
    const size_t bytes = packed_bytes(matrix_.layout, matrix_.rows, matrix_.columns);
    const size_t n = std::clamp<size_t>(std::min<size_t>(std::thread::hardware_concurrency(), groups / worth_a_thread), 1, most_threads);
    std::atomic<bool> whole{true};
    const auto part = [&](size_t i) {
        const size_t last = groups * (i + 1) / n;
        for (size_t group = groups * i / n; group < last;) {
            const size_t m = group / per_matrix, first = group % per_matrix;
            const size_t end = std::min(per_matrix, first + last - group);
            if (!pack(format_, matrix_.layout, source + m * source_bytes, packed + m * bytes, matrix_.rows, matrix_.columns, first, end)) {
                whole = false;
            }
            group += end - first;
        }
    };
    std::vector<std::thread> others;
    size_t begun = 1;
    try {
        for (; begun < n; ++begun) {
            others.emplace_back(part, begun);
        }
    } catch (const std::exception &) {
        // No more threads to be had: the rest is packed here.
    }
    part(0);
    for (; begun < n; ++begun) {
        part(begun);
    }
    for (std::thread & thread : others) {
        thread.join();
    }
    return whole;
}

} // namespace ternion::kernels
