#include "shared_activations.h"

#include "ggml-cpu/ggml-cpu-impl.h"
#include "ggml-impl.h"

#include <new>

namespace ternion::kernels {
namespace {

bool overlap(const ggml_tensor * a, const ggml_tensor * b) {
    const auto * const a0 = static_cast<const char *>(a->data), * const b0 = static_cast<const char *>(b->data);
    return a0 < b0 + ggml_nbytes(b) && b0 < a0 + ggml_nbytes(a);
}

const ggml_tensor * ids_of(const ggml_tensor * node) {
    return node->op == GGML_OP_MUL_MAT_ID ? node->src[2] : nullptr;
}

int index_of(const ggml_tensor * node, const ggml_cgraph * graph, int from) {
    for (int i = from < 0 ? 0 : from; i < graph->n_nodes; ++i) {
        if (graph->nodes[i] == node) {
            return i;
        }
    }
    return -1;
}

} // namespace

Operation::Operation(const ggml_tensor * node, const ggml_threadpool * pool) : node(node), graph(ggml_threadpool_graph(pool, &n_before)) {}

bool Prepared::serves(const Operation & operation, const Preparation & how) const {
    const ggml_tensor * const ids = ids_of(operation.node);
    if (at_ < 0 || n_before_ != operation.n_before || inputs_.in != operation.node->src[1] || inputs_.ids != ids || !(how_ == how)) {
        return false;
    }
    for (int i = at_ + 1; i < operation.graph->n_nodes; ++i) {
        const ggml_tensor * const node = operation.graph->nodes[i];
        if (node == operation.node) {
            return true;
        }
        if (!ggml_op_is_empty(node->op) && (overlap(node, inputs_.in) || (ids && overlap(node, ids)))) {
            break;
        }
    }
    return false;
}

void Prepared::keep(const Operation & operation, const Preparation & how) {
    const bool same_graph = n_before_ == operation.n_before;
    int at = index_of(operation.node, operation.graph, same_graph ? at_ : 0);
    at = at < 0 && same_graph ? index_of(operation.node, operation.graph, 0) : at;
    inputs_ = {operation.node->src[1], ids_of(operation.node)};
    how_ = how;
    n_before_ = operation.n_before;
    at_ = at;
}

uint8_t * Prepared::reserve(size_t bytes) {
    if (bytes > bytes_) {
        at_ = -1;
        data_ = nullptr;
        bytes_ = 0;
        memory_.reset(new (std::nothrow) uint8_t[bytes + 63]);
        if (memory_) {
            data_ = reinterpret_cast<uint8_t *>((reinterpret_cast<uintptr_t>(memory_.get()) + 63) & ~uintptr_t{63});
            bytes_ = bytes;
        }
    }
    return data_;
}

void install_shared_activations() {
    ggml_threadpool_attach(
        [](int n_threads) -> void * {
            try {
                return new SharedActivations(static_cast<size_t>(n_threads));
            } catch (const std::bad_alloc &) {
                return nullptr;
            }
        },
        [](void * attached) { delete static_cast<SharedActivations *>(attached); });
}

SharedActivations * shared_activations(const ggml_threadpool * pool) {
    return pool ? static_cast<SharedActivations *>(ggml_threadpool_attached(pool)) : nullptr;
}

} // namespace ternion::kernels
