#include "placement.h"

#include "backend.h"

#include <../src/llama-ext.h> // llama_get_memory_breakdown
#include <../src/llama-memory-hybrid-iswa.h>
#include <../src/llama-memory-hybrid.h>
#include <../src/llama-memory-recurrent.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <tuple>

namespace ternion {
namespace {

bool contains(const std::string & text, const char * part) { return text.find(part) != std::string::npos; }
bool begins(const std::string & text, const char * part) { return text.rfind(part, 0) == 0; }

/// The part of a model's memory that is the state of recurrent layers; null if there is none.
const llama_memory_recurrent * recurrent_part(llama_memory_t memory) {
    if (const auto * hybrid = dynamic_cast<const llama_memory_hybrid *>(memory)) {
        return hybrid->get_mem_recr();
    }
    if (const auto * hybrid = dynamic_cast<const llama_memory_hybrid_iswa *>(memory)) {
        return hybrid->get_mem_recr();
    }
    return dynamic_cast<const llama_memory_recurrent *>(memory);
}

} // namespace

const char * role_of(const std::string & tensor) {
    int layer = 0, length = 0;
    if (std::sscanf(tensor.c_str(), "blk.%d.%n", &layer, &length) != 1 || length == 0) {
        return contains(tensor, "embd") || begins(tensor, "token_types") ? "embedding" : begins(tensor, "output") || begins(tensor, "cls") ? "output" : "other";
    }
    const std::string name = tensor.substr(static_cast<size_t>(length));
    if (contains(name, "_exps") || contains(name, "_chexps")) {
        return "experts";
    }
    if (contains(name, "_shexp")) {
        return "shared-experts";
    }
    if (begins(name, "ffn_gate_inp") || begins(name, "exp_probs")) {
        return "router";
    }
    if (begins(name, "ssm_") || begins(name, "time_mix") || begins(name, "channel_mix") || begins(name, "shortconv")) {
        return "recurrent";
    }
    return begins(name, "attn") ? "attention" : begins(name, "ffn") || begins(name, "post_ffw") ? "ffn" : "other";
}

std::vector<WeightPlace> weight_places(const llama_model * model) {
    std::map<std::tuple<std::string, int32_t, std::string>, WeightPlace> places;
    std::map<ggml_backend_buffer_type_t, std::string> devices;
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(model)) {
        if (!tensor->buffer) {
            continue;
        }
        ggml_backend_buffer_type_t type = ggml_backend_buffer_get_type(tensor->buffer);
        auto device = devices.find(type);
        if (device == devices.end()) {
            device = devices.emplace(type, device_id_of(type)).first;
        }
        int32_t layer = -1;
        std::sscanf(name.c_str(), "blk.%d.", &layer);
        WeightPlace & place = places[{device->second, layer, role_of(name)}];
        place.device = device->second;
        place.role = role_of(name);
        place.layer = layer;
        place.tensors++;
        place.bytes += ggml_backend_buft_get_alloc_size(type, tensor);
    }
    std::vector<WeightPlace> list;
    for (auto & [key, place] : places) {
        list.push_back(std::move(place));
    }
    return list;
}

std::vector<DevicePlacement> device_placements(const llama_context * context, const std::vector<WeightPlace> & weights) {
    std::map<std::string, DevicePlacement> by_device;
    const auto on = [&](const std::string & device) -> DevicePlacement & {
        DevicePlacement & place = by_device[device];
        place.device = device;
        return place;
    };
    for (const WeightPlace & place : weights) {
        on(place.device).weight_bytes += place.bytes;
    }
    for (const auto & [type, bytes] : llama_get_memory_breakdown(context)) {
        DevicePlacement & place = on(device_id_of(type));
        place.kv_bytes += bytes.context;
        place.compute_bytes += bytes.compute;
    }
    if (const auto * recurrent = recurrent_part(llama_get_memory(context))) {
        for (const auto & [type, bytes] : recurrent->memory_breakdown()) {
            DevicePlacement & place = on(device_id_of(type));
            place.state_bytes += bytes;
            place.kv_bytes -= std::min<uint64_t>(place.kv_bytes, bytes);
        }
    }
    std::vector<DevicePlacement> list;
    for (auto & [id, place] : by_device) {
        list.push_back(std::move(place));
    }
    std::stable_partition(list.begin(), list.end(), [](const DevicePlacement & place) { return place.device == "cpu"; });
    return list;
}

} // namespace ternion
