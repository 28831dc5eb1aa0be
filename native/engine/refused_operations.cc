#include "refused_operations.h"

#include "backend.h"

#include <../src/llama-context.h>
#include <../src/llama-memory.h>
#include <../src/llama-model.h>

#include "ggml-backend.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <tuple>

namespace ternion {
namespace {

using Key = std::tuple<std::string, std::string, std::string>;

bool computes(const ggml_tensor * node) {
    switch (node->op) {
        case GGML_OP_NONE:
        case GGML_OP_RESHAPE:
        case GGML_OP_VIEW:
        case GGML_OP_PERMUTE:
        case GGML_OP_TRANSPOSE:
        case GGML_OP_CUSTOM: // the router of an expert cache, which is the CPU's on purpose
            return false;
        default:
            return !ggml_is_empty(node);
    }
}

/// The layer in a name like "ffn_out-12"; -1 if it has none.
int layer_of(const char * name) {
    const char * dash = std::strrchr(name, '-');
    if (!dash || dash[1] == '\0') {
        return -1;
    }
    char * end = nullptr;
    const long layer = std::strtol(dash + 1, &end, 10);
    return end != dash + 1 && (*end == '\0' || *end == ' ') && layer >= 0 ? static_cast<int>(layer) : -1;
}

const ggml_tensor * source_of(const ggml_tensor * tensor) { return tensor->view_src ? tensor->view_src : tensor; }

/// A weight among its operands that lies in the CPU's memory; null if there is none.
const ggml_tensor * weight_on_cpu(const ggml_tensor * node) {
    for (const ggml_tensor * operand : node->src) {
        const ggml_tensor * source = operand ? source_of(operand) : nullptr;
        if (source && source->buffer && ggml_backend_buffer_get_usage(source->buffer) == GGML_BACKEND_BUFFER_USAGE_WEIGHTS &&
            is_cpu_memory(ggml_backend_buffer_get_type(source->buffer))) {
            return source;
        }
    }
    return nullptr;
}

std::string types_of(const ggml_tensor * node) {
    std::string types;
    for (int i = 0; i < 2 && node->src[i]; ++i) {
        types += (i > 0 ? " × " : "") + std::string(ggml_type_name(node->src[i]->type));
    }
    return types + " → " + ggml_type_name(node->type);
}

void look(const llama_model & model, ggml_backend_sched_t sched, ggml_cgraph * graph, const std::set<std::string> & refused_weights,
          std::map<Key, RefusedOperation> & found) {
    std::map<Key, RefusedOperation> here;
    const int layers = static_cast<int>(model.hparams.n_layer());
    int layer = -1; // what has no number in its name belongs to what was before it
    for (int i = 0; i < ggml_graph_n_nodes(graph); ++i) {
        const ggml_tensor * node = ggml_graph_node(graph, i);
        const std::string name = node->name;
        const int named = layer_of(node->name);
        layer = named >= 0 && named < layers ? named : name.rfind("result_", 0) == 0 ? layers : layer;
        if (layer < 0 || !computes(node)) {
            continue;
        }
        ggml_backend_dev_t device = layer < layers ? model.dev_layer(layer) : model.dev_output();
        if (!device || ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU) {
            continue;
        }
        ggml_backend_t backend = ggml_backend_sched_get_tensor_backend(sched, const_cast<ggml_tensor *>(node));
        if (!backend || ggml_backend_dev_type(ggml_backend_get_device(backend)) != GGML_BACKEND_DEVICE_TYPE_CPU) {
            continue;
        }
        const ggml_tensor * weight = weight_on_cpu(node);
        if (weight && refused_weights.count(weight->name) == 0) {
            continue;
        }
        if (ggml_backend_dev_supports_op(device, node)) { // it went with its neighbours
            continue;
        }
        const std::string id = device_id_of(ggml_backend_dev_buffer_type(device));
        RefusedOperation & refused = here[{ggml_op_name(node->op), id, types_of(node)}];
        if (refused.count++ == 0) {
            refused.operation = ggml_op_name(node->op);
            refused.device = id;
            refused.types = types_of(node);
            refused.weight = weight ? weight->name : "";
            refused.layer = layer;
        }
    }
    for (auto & [key, refused] : here) {
        RefusedOperation & known = found[key];
        if (refused.count > known.count) {
            known = std::move(refused);
        }
    }
}

} // namespace

std::vector<RefusedOperation> refused_operations(llama_context * context, const std::set<std::string> & refused_weights) {
    const llama_model & model = context->get_model();
    std::map<Key, RefusedOperation> found;
    const auto & params = context->get_cparams();
    llama_memory_context_ptr memory;
    if (llama_memory_t all = context->get_memory()) {
        memory = all->init_full();
        if (!memory) {
            return {};
        }
    }
    const uint32_t sequences = params.n_seq_max;
    for (const uint32_t tokens : {std::min(params.n_ctx, params.n_ubatch), sequences}) {
        ggml_cgraph * graph = context->graph_reserve(tokens, sequences, std::min(tokens, params.n_outputs_max), memory.get(), true);
        if (graph) {
            look(model, context->get_sched(), graph, refused_weights, found);
        }
    }
    ggml_backend_sched_reset(context->get_sched());
    std::vector<RefusedOperation> list;
    for (auto & [key, refused] : found) {
        list.push_back(std::move(refused));
    }
    return list;
}

} // namespace ternion
