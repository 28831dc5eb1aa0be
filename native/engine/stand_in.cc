#include "stand_in.h"

#include "backend.h"
#include "host_memory.h"
#include "placement.h"
#include "random_weights.h"

#include <../src/llama-context.h>
#include <../src/llama-model.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <set>

namespace ternion {
namespace {

constexpr size_t pattern_blocks = 1 << 14; // of a type, repeated through a tensor

/// Of "blk.7.attn_q.weight", and of "cache_k_l7"; -1: of no layer.
int32_t layer_of(const std::string & name) {
    int32_t layer = -1;
    if (std::sscanf(name.c_str(), "blk.%d.", &layer) == 1) {
        return layer;
    }
    const size_t at = name.rfind("_l");
    return name.rfind("cache_", 0) == 0 && at != std::string::npos && std::sscanf(name.c_str() + at, "_l%d", &layer) == 1 ? layer : -1;
}

/// The name without its layer.
std::string stem_of(const std::string & name) {
    const size_t end = name.find('.', 4);
    return name.rfind("blk.", 0) == 0 && end != std::string::npos ? name.substr(end) : name.substr(0, name.rfind("_l"));
}

/// Of a tensor's bytes, those that a token reads: of routed experts it reads a few.
uint64_t read_bytes(const ggml_tensor * tensor, uint64_t bytes, const llama_hparams & model, size_t layer) {
    const bool routed = model.n_expert > 0 && tensor->ne[2] == static_cast<int64_t>(model.n_expert);
    return routed ? bytes * std::min(model.n_expert_used(static_cast<uint32_t>(layer)), model.n_expert) / model.n_expert : bytes;
}

std::string shape_of(const ggml_tensor * tensor) {
    std::string text = std::string(ggml_type_name(tensor->type));
    for (const int64_t n : tensor->ne) {
        text.append(",").append(std::to_string(n)); // "+" of these makes GCC 12 warn
    }
    return text + "@" + ggml_backend_buft_name(ggml_backend_buffer_get_type(tensor->buffer));
}

/// Tensors of a context's cells and states: what its graphs read beside weights and inputs.
std::vector<std::pair<std::string, ggml_tensor *>> cache_tensors(llama_context * context, const llama_model * model) {
    std::set<const ggml_tensor *> seen;
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(model)) {
        seen.insert(tensor);
    }
    std::vector<std::pair<std::string, ggml_tensor *>> found;
    const auto memory = context->get_memory()->init_full();
    ggml_cgraph * graph = context->graph_reserve(1, 1, 1, memory.get(), true);
    for (int i = 0; i < ggml_graph_n_nodes(graph); ++i) {
        for (ggml_tensor * source : ggml_graph_node(graph, i)->src) {
            ggml_tensor * root = source && source->view_src ? source->view_src : source;
            if (root && root->op == GGML_OP_NONE && root->buffer && seen.insert(root).second) {
                found.emplace_back(root->name, root);
            }
        }
    }
    return found;
}

} // namespace

LayerKinds LayerKinds::of(const llama_model * model) {
    const auto n = static_cast<size_t>(llama_model_n_layer(model));
    std::vector<std::set<std::string>> facts(n);
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(model)) {
        const int32_t layer = layer_of(name);
        if (layer >= 0 && static_cast<size_t>(layer) < n && tensor->buffer) {
            facts[static_cast<size_t>(layer)].insert(stem_of(name) + shape_of(tensor));
        }
    }
    LayerKinds all;
    std::map<std::set<std::string>, int32_t> kinds;
    for (size_t i = 0; i < n; ++i) {
        const auto layer = static_cast<uint32_t>(i);
        facts[i].insert("window " + std::to_string(model->hparams.is_swa(layer)) + ", recurrent " + std::to_string(model->hparams.is_recr(layer)));
        const auto kind = kinds.try_emplace(facts[i], static_cast<int32_t>(kinds.size())).first->second;
        all.count.resize(kinds.size());
        all.kind.push_back(kind);
        all.place.push_back(all.count[static_cast<size_t>(kind)]++);
    }
    return all;
}

StandIn::StandIn(const llama_model * model) : model_(model), kinds_(LayerKinds::of(model)), apart_(kinds_.count.size(), 1) {}

StandIn::~StandIn() {
    for (const Was & was : were_) {
        was.tensor->buffer = was.buffer;
        was.tensor->data = nullptr;
        was.tensor->extra = nullptr;
    }
}

Result<std::unique_ptr<StandIn>> StandIn::make(const llama_model * model, uint64_t apart_bytes, const std::atomic<bool> & cancel) {
    std::unique_ptr<StandIn> made(new StandIn(model));
    std::vector<uint64_t> layer_bytes(made->kinds_.count.size());
    std::vector<std::pair<std::string, ggml_tensor *>> tensors;
    uint64_t all = 0;
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(model)) {
        if (!tensor->buffer) {
            continue;
        }
        tensors.emplace_back(name, tensor);
        const uint64_t bytes = ggml_backend_buft_get_alloc_size(ggml_backend_buffer_get_type(tensor->buffer), tensor);
        const auto layer = static_cast<size_t>(layer_of(name));
        all += bytes;
        if (layer < made->kinds_.kind.size()) {
            const auto kind = static_cast<size_t>(made->kinds_.kind[layer]);
            layer_bytes[kind] += read_bytes(tensor, bytes, model->hparams, layer) / static_cast<uint64_t>(made->kinds_.count[kind]);
        }
    }
    for (size_t kind = 0; kind < layer_bytes.size(); ++kind) {
        const auto each = apart_bytes / (std::max<uint64_t>(layer_bytes[kind], 1) * layer_bytes.size()) + 1;
        made->apart_[kind] = all <= apart_bytes ? made->kinds_.count[kind] : static_cast<int32_t>(std::min<uint64_t>(static_cast<uint64_t>(made->kinds_.count[kind]), each));
    }
    if (auto ok = made->bind(made->weights_, tensors, true, cancel); !ok) {
        return ok.error();
    }
    return made;
}

Result<bool> StandIn::bind_cache(llama_context * context, const std::atomic<bool> & cancel) {
    cache_.clear();
    return bind(cache_, cache_tensors(context, model_), false, cancel);
}

std::string StandIn::key_of(const std::string & name, const ggml_tensor * tensor, int32_t layer) const {
    if (layer < 0 || static_cast<size_t>(layer) >= kinds_.kind.size()) {
        return name + shape_of(tensor);
    }
    const auto at = static_cast<size_t>(layer);
    const auto kind = static_cast<size_t>(kinds_.kind[at]);
    return std::to_string(kind) + "/" + std::to_string(kinds_.place[at] % apart_[kind]) + stem_of(name) + shape_of(tensor);
}

Result<bool> StandIn::bind(Buffers & buffers, const Named & tensors, bool weights, const std::atomic<bool> & cancel) {
    std::map<ggml_backend_buffer_type_t, Named> by_memory;
    for (const auto & [name, tensor] : tensors) {
        by_memory[ggml_backend_buffer_get_type(tensor->buffer)].emplace_back(name, tensor);
    }
    for (const auto & [memory, list] : by_memory) {
        if (auto ok = bind_in(memory, buffers, list, weights, cancel); !ok) {
            return ok;
        }
    }
    return true;
}

Result<bool> StandIn::bind_in(ggml_backend_buffer_type_t memory, Buffers & buffers, const Named & tensors, bool weights, const std::atomic<bool> & cancel) {
    const ggml_context_ptr context(ggml_init({(tensors.size() + 1) * ggml_tensor_overhead(), nullptr, true}));
    std::map<std::string, ggml_tensor *> own; // one for all that are alike
    uint64_t bytes = 0;
    for (const auto & [name, tensor] : tensors) {
        ggml_tensor *& made = own[key_of(name, tensor, layer_of(name))];
        if (!made) {
            made = ggml_new_tensor(context.get(), tensor->type, GGML_MAX_DIMS, tensor->ne);
            ggml_set_name(made, name.c_str());
            bytes += ggml_backend_buft_get_alloc_size(memory, made);
        }
    }
    const auto no_room = [&] {
        return Error{ErrorCode::out_of_memory, std::to_string(bytes >> 20) + " MiB are missing in " + ggml_backend_buft_name(memory) + " to measure the model's speed"};
    };
    // The system would promise more than it has.
    const HostMemory host = host_memory();
    if (is_cpu_memory(memory) && host.total_bytes > 0 && bytes > host.available_bytes / 4 * 3) {
        return no_room();
    }
    ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors_from_buft(context.get(), memory));
    if (!buffer) {
        return no_room();
    }
    ggml_backend_buffer_set_usage(buffer.get(), weights ? GGML_BACKEND_BUFFER_USAGE_WEIGHTS : GGML_BACKEND_BUFFER_USAGE_ANY);
    bytes_ += weights ? ggml_backend_buffer_get_size(buffer.get()) : 0;
    buffers.push_back(std::move(buffer));
    for (const auto & [key, made] : own) {
        if (cancel) {
            return Error{ErrorCode::aborted, "measuring was aborted"};
        }
        fill(made, weights);
    }
    for (const auto & [name, tensor] : tensors) {
        const ggml_tensor * made = own[key_of(name, tensor, layer_of(name))];
        if (weights) {
            were_.push_back({tensor, tensor->buffer});
        }
        tensor->data = made->data;
        tensor->extra = made->extra;
        tensor->buffer = made->buffer; // last: keys know it
    }
    return true;
}

const std::vector<uint8_t> & StandIn::pattern_of(ggml_type type) {
    std::vector<uint8_t> & pattern = patterns_[type];
    if (pattern.empty()) {
        pattern.resize(pattern_blocks * ggml_type_size(type));
        RandomBits random(1, ggml_type_name(type));
        random_weights(type, 0.02, random, pattern.data(), pattern_blocks);
    }
    return pattern;
}

/// Tensors begin at other blocks of it: queries, keys and values that are all the same would not look like attention.
size_t StandIn::begin_of(ggml_type type) { return (filled_++ * 7919 % pattern_blocks) * ggml_type_size(type); }

void StandIn::fill(ggml_tensor * tensor, bool weights) {
    const size_t bytes = ggml_nbytes(tensor);
    ggml_backend_buffer_type_t type = ggml_backend_buffer_get_type(tensor->buffer);
    // Layouts of the CPU's own take a tensor as a whole; all else is written piece by piece, for it may be gigabytes.
    const bool whole = is_cpu_memory(type) && !ggml_backend_buft_is_host(type);
    if (!whole && can_be_random(tensor->type) && !(weights && tensor->type == GGML_TYPE_F32 && std::strstr(tensor->name, "norm"))) {
        const std::vector<uint8_t> & pattern = pattern_of(tensor->type);
        size_t from = begin_of(tensor->type);
        for (size_t at = 0; at < bytes; from = 0) {
            const size_t n = std::min(bytes - at, pattern.size() - from);
            ggml_backend_tensor_set(tensor, pattern.data() + from, at, n);
            at += n;
        }
        return;
    }
    std::vector<uint8_t> all(bytes);
    const bool norm = weights && tensor->type == GGML_TYPE_F32 && std::strstr(tensor->name, "norm");
    if (norm) {
        std::fill_n(reinterpret_cast<float *>(all.data()), bytes / sizeof(float), 1.0f);
    } else if (can_be_random(tensor->type)) {
        const std::vector<uint8_t> & pattern = pattern_of(tensor->type);
        size_t from = begin_of(tensor->type);
        for (size_t at = 0; at < bytes; from = 0) {
            const size_t n = std::min(bytes - at, pattern.size() - from);
            std::memcpy(all.data() + at, pattern.data() + from, n);
            at += n;
        }
    }
    ggml_backend_tensor_set(tensor, all.data(), 0, bytes);
}

} // namespace ternion
