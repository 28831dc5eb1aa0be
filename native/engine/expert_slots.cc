#include "expert_slots.h"

#include "backend.h"

#include <../src/llama-model.h> // tensors by layer

#include <algorithm>

namespace ternion {
namespace {

bool plain_host_memory(const ggml_tensor * tensor) {
    return tensor->buffer && ggml_backend_buft_is_host(ggml_backend_buffer_get_type(tensor->buffer)) && ggml_is_contiguous(tensor);
}

/// Matrices have their experts in the third dimension, biases in the second.
int expert_dimension(ExpertLayer::Name name) {
    return name == ExpertLayer::gate_up_b || name == ExpertLayer::up_b || name == ExpertLayer::gate_b || name == ExpertLayer::down_b ? 1 : 2;
}

/// Whether the device multiplies one token with these slots.
bool multiplies(ggml_backend_dev_t device, const ggml_tensor * slots) {
    const std::unique_ptr<ggml_context, decltype(&ggml_free)> graph(ggml_init({8 * ggml_tensor_overhead(), nullptr, true}), ggml_free);
    ggml_tensor * weights = ggml_dup_tensor(graph.get(), slots);
    ggml_tensor * in = ggml_new_tensor_3d(graph.get(), GGML_TYPE_F32, weights->ne[0], 1, 1);
    ggml_tensor * ids = ggml_new_tensor_2d(graph.get(), GGML_TYPE_I32, 1, 1);
    return ggml_backend_dev_supports_op(device, ggml_mul_mat_id(graph.get(), weights, in, ids));
}

} // namespace

Result<std::unique_ptr<ExpertSlots>> ExpertSlots::make(const llama_model & model, uint64_t device_bytes) {
    std::unique_ptr<ExpertSlots> made(new ExpertSlots);
    made->find_layers(model);
    if (device_bytes == 0) {
        for (ExpertLayer & layer : made->layers_) {
            layer.device = nullptr;
        }
        return made;
    }
    uint32_t most = 0;
    for (const ExpertLayer & layer : made->layers_) {
        most = layer.device ? std::max(most, layer.experts) : most;
    }
    if (most == 0) {
        return Error{ErrorCode::invalid_arg, "an expert cache needs routed experts in the CPU's memory, with the rest of their layers on a GPU; this model has none there"};
    }
    uint32_t fits = 0, too_many = most + 1;
    while (too_many - fits > 1) {
        const uint32_t middle = fits + (too_many - fits) / 2;
        (made->lay_out(middle) && made->total() <= device_bytes ? fits : too_many) = middle;
    }
    if (fits == 0) {
        const bool computes = made->lay_out(1);
        return Error{ErrorCode::invalid_arg,
                     computes ? "an expert cache of " + std::to_string(device_bytes) + " bytes holds no expert of each layer; " + std::to_string(made->total()) + " bytes are the least"
                              : "the device does not multiply with this model's experts, so it cannot cache them",
                     {{"bytes", static_cast<double>(device_bytes)}, {"leastBytes", static_cast<double>(made->total())}}};
    }
    made->lay_out(fits);
    if (auto ok = made->allocate(model.hparams.no_alloc); !ok) {
        return ok.error();
    }
    return made;
}

void ExpertSlots::find_layers(const llama_model & model) {
    for (size_t i = 0; i < model.layers.size(); ++i) {
        const llama_layer & from = model.layers[i];
        if (!from.ffn_down_exps) {
            continue;
        }
        ExpertLayer layer;
        layer.layer = static_cast<int32_t>(i);
        layer.experts = static_cast<uint32_t>(from.ffn_down_exps->ne[2]);
        ggml_tensor * const tensors[ExpertLayer::names] = {from.ffn_gate_up_exps, from.ffn_gate_up_exps_b, from.ffn_up_exps,   from.ffn_up_exps_b,
                                                           from.ffn_gate_exps,    from.ffn_gate_exps_b,    from.ffn_down_exps, from.ffn_down_exps_b};
        bool cacheable = !from.ffn_gate_exps_s && !from.ffn_up_exps_s && !from.ffn_down_exps_s;
        for (int name = 0; name < ExpertLayer::names; ++name) {
            ggml_tensor * host = tensors[name];
            layer.parts[name].host = host;
            if (host) {
                const int dimension = expert_dimension(static_cast<ExpertLayer::Name>(name));
                cacheable = cacheable && plain_host_memory(host) && host->ne[dimension] == layer.experts;
                layer.expert_bytes += host->nb[dimension];
            }
        }
        ggml_backend_dev_t device = model.dev_layer(layer.layer);
        layer.device = cacheable && device && ggml_backend_dev_type(device) != GGML_BACKEND_DEVICE_TYPE_CPU ? device : nullptr;
        layers_.push_back(layer);
    }
}

bool ExpertSlots::lay_out(uint32_t slots) {
    contexts_.clear();
    bytes_.clear();
    slots_ = slots;
    for (ExpertLayer & layer : layers_) {
        if (!layer.device) {
            continue;
        }
        ContextPtr & context = contexts_[layer.device];
        if (!context) {
            context.reset(ggml_init({(layers_.size() * ExpertLayer::names + 1) * ggml_tensor_overhead(), nullptr, true}));
        }
        for (int name = 0; name < ExpertLayer::names; ++name) {
            ExpertLayer::Part & part = layer.parts[name];
            if (!part.host) {
                continue;
            }
            const bool bias = expert_dimension(static_cast<ExpertLayer::Name>(name)) == 1;
            const int64_t all = int64_t{std::min(slots, layer.experts)} + 1; // with the zeros
            part.slots = bias ? ggml_new_tensor_2d(context.get(), part.host->type, part.host->ne[0], all)
                              : ggml_new_tensor_3d(context.get(), part.host->type, part.host->ne[0], part.host->ne[1], all);
            ggml_format_name(part.slots, "slots of %s", part.host->name);
            if (!bias && !multiplies(layer.device, part.slots)) {
                return false;
            }
        }
    }
    for (const auto & [device, context] : contexts_) {
        ggml_backend_buffer_type_t type = ggml_backend_dev_buffer_type(device);
        bytes_[device_id_of(type)] += ggml_backend_alloc_ctx_tensors_from_buft_size(context.get(), type);
    }
    return true;
}

uint64_t ExpertSlots::total() const {
    uint64_t total = 0;
    for (const auto & [device, bytes] : bytes_) {
        total += bytes;
    }
    return total;
}

Result<bool> ExpertSlots::allocate(bool dry) {
    for (const auto & [device, context] : contexts_) {
        ggml_backend_buffer_type_t type = ggml_backend_dev_buffer_type(device);
        ggml_backend_buffer_t buffer = dry ? ggml_backend_buft_alloc_buffer(type, 0) : ggml_backend_alloc_ctx_tensors_from_buft(context.get(), type);
        if (!buffer) {
            return Error{ErrorCode::out_of_memory, "no " + std::to_string(total()) + " bytes of device memory for an expert cache", {{"bytes", static_cast<double>(total())}}};
        }
        buffers_.emplace_back(buffer);
        ggml_backend_buffer_set_usage(buffer, GGML_BACKEND_BUFFER_USAGE_WEIGHTS); // where weights are is where they are multiplied
        for (ggml_tensor * tensor = ggml_get_first_tensor(context.get()); dry && tensor; tensor = ggml_get_next_tensor(context.get(), tensor)) {
            tensor->buffer = buffer;
        }
        if (!dry) {
            ggml_backend_buffer_clear(buffer, 0);
        }
    }
    return true;
}

void ExpertSlots::upload(const ExpertLayer & layer, uint32_t expert, uint32_t slot) const {
    for (int name = 0; name < ExpertLayer::names; ++name) {
        const ExpertLayer::Part & part = layer.parts[name];
        if (!part.slots) {
            continue;
        }
        const size_t bytes = part.host->nb[expert_dimension(static_cast<ExpertLayer::Name>(name))];
        // In pieces: a backend may hold a lock while it copies, which a step in between would wait for.
        constexpr size_t piece = size_t{1} << 20;
        for (size_t done = 0; done < bytes; done += piece) {
            ggml_backend_tensor_set(part.slots, static_cast<const char *>(part.host->data) + expert * bytes + done, (slot + 1) * bytes + done, std::min(piece, bytes - done));
        }
    }
}

} // namespace ternion
