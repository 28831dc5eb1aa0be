#include "convert.h"
#include "make_list.h"

#include <sstream>

namespace ternion::binding {
namespace {

// 64-bit integers that a double cannot hold become bigint.
napi_value make_scalar(napi_env env, const GgufScalar & scalar) {
    constexpr int64_t safe = int64_t{1} << 53;
    napi_value out = nullptr;
    if (const auto * flag = std::get_if<bool>(&scalar.value)) {
        return make_bool(env, *flag);
    }
    if (const auto * text = std::get_if<std::string>(&scalar.value)) {
        return make(env, *text);
    }
    if (const auto * real = std::get_if<double>(&scalar.value)) {
        return make(env, *real);
    }
    if (const auto * wide = std::get_if<uint64_t>(&scalar.value)) {
        if (*wide <= static_cast<uint64_t>(safe)) {
            return make(env, static_cast<double>(*wide));
        }
        napi_create_bigint_uint64(env, *wide, &out);
        return out;
    }
    const int64_t value = std::get<int64_t>(scalar.value);
    if (value <= safe && value >= -safe) {
        return make(env, static_cast<double>(value));
    }
    napi_create_bigint_int64(env, value, &out);
    return out;
}

} // namespace

napi_value make(napi_env env, const DeviceList & list) {
    napi_value out = make_object(env);
    set(env, out, "devices", make_list(env, list.devices, [&](const Device & device) {
            napi_value item = make_object(env);
            set(env, item, "id", device.id);
            set(env, item, "name", device.name);
            set(env, item, "description", device.description);
            set(env, item, "backend", device.backend);
            set(env, item, "kind", device.kind == DeviceKind::cpu ? "cpu" : device.kind == DeviceKind::gpu ? "gpu" : "igpu");
            set(env, item, "pciId", device.pci_id);
            set(env, item, "hardwareId", device.hardware_id);
            set(env, item, "driver", device.driver);
            set(env, item, "driverVersion", device.driver_version);
            set(env, item, "architecture", device.architecture);
            set(env, item, "uma", make_bool(env, device.uma));
            set(env, item, "software", make_bool(env, device.software));
            set(env, item, "totalBytes", number(device.total_bytes));
            set(env, item, "freeBytes", number(device.free_bytes));
            set(env, item, "ownFreeBytes", number(device.own_free_bytes));
            set(env, item, "largestAllocationBytes", number(device.largest_allocation_bytes));
            if (device.limited) {
                napi_value limited = make_object(env);
                set(env, limited, "limitBytes", number(device.limited->limit_bytes));
                set(env, limited, "allocatedBytes", number(device.limited->allocated_bytes));
                set(env, limited, "peakBytes", number(device.limited->peak_bytes));
                set(env, item, "limited", limited);
            }
            set(env, item, "capabilities", make_list(env, device.capabilities, [&](const std::string & capability) { return make(env, capability); }));
            return item;
        }));
    set(env, out, "unavailable", make_list(env, list.unavailable, [&](const UnavailableBackend & backend) {
            napi_value item = make_object(env);
            set(env, item, "backend", backend.backend);
            set(env, item, "reason", backend.reason);
            return item;
        }));
    return out;
}

napi_value make(napi_env env, const std::vector<TensorHealth> & tensors) {
    return make_list(env, tensors, [&](const TensorHealth & tensor) {
        napi_value item = make_object(env);
        set(env, item, "name", tensor.name);
        set(env, item, "type", tensor.type);
        set(env, item, "blocks", number(tensor.blocks));
        set(env, item, "notFinite", number(tensor.not_finite));
        set(env, item, "zeroScales", number(tensor.zero_scales));
        set(env, item, "checked", make_bool(env, tensor.checked));
        return item;
    });
}

napi_value make(napi_env env, const ImportReport & report) {
    napi_value out = make_object(env);
    set(env, out, "source", report.source);
    set(env, out, "architecture", report.architecture);
    set(env, out, "activation", report.activation);
    set(env, out, "bytes", number(report.bytes));
    set(env, out, "ternary", number(report.ternary));
    set(env, out, "converted", number(report.converted));
    set(env, out, "kept", number(report.kept));
    set(env, out, "largestScaleError", report.largest_scale_error);
    set(env, out, "notes", make_list(env, report.notes, [&](const std::string & note) { return make(env, note); }));
    return out;
}

napi_value make(napi_env env, const QuantizeReport & report) {
    napi_value out = make_object(env);
    set(env, out, "bytes", number(report.bytes));
    set(env, out, "relativeError", report.relative_error);
    set(env, out, "tensors", make_list(env, report.tensors, [&](const QuantizedTensor & tensor) {
            napi_value item = make_object(env);
            set(env, item, "name", tensor.name);
            set(env, item, "from", tensor.from);
            set(env, item, "to", tensor.to);
            set(env, item, "bytes", number(tensor.bytes));
            set(env, item, "relativeError", tensor.relative_error);
            set(env, item, "lossless", make_bool(env, tensor.lossless));
            return item;
        }));
    return out;
}

napi_value make(napi_env env, const GgufFile & file) {
    napi_value out = make_object(env);
    set(env, out, "version", number(file.version));
    set(env, out, "alignment", number(file.alignment));
    set(env, out, "dataOffset", number(file.data_offset));
    set(env, out, "fileBytes", number(file.file_bytes));
    set(env, out, "metadata", make_list(env, file.metadata, [&](const GgufEntry & entry) {
            napi_value item = make_object(env);
            set(env, item, "key", entry.key);
            set(env, item, "type", entry.type);
            const auto convert = [&](const GgufScalar & scalar) { return make_scalar(env, scalar); };
            set(env, item, "value", entry.is_array ? make_list(env, entry.values, convert) : convert(entry.values.front()));
            if (entry.is_array) {
                set(env, item, "length", number(entry.length));
            }
            return item;
        }));
    set(env, out, "tensors", make_list(env, file.tensors, [&](const GgufTensor & tensor) {
            napi_value item = make_object(env);
            set(env, item, "name", tensor.name);
            set(env, item, "type", tensor.type);
            set(env, item, "shape", make_list(env, tensor.shape, [&](int64_t n) { return make(env, static_cast<double>(n)); }));
            set(env, item, "bytes", number(tensor.bytes));
            set(env, item, "offset", number(tensor.offset));
            return item;
        }));
    return out;
}

napi_value make(napi_env env, const PackHealth & health) {
    napi_value out = make_object(env);
    set(env, out, "state", health.state == PackState::whole ? "whole" : health.state == PackState::stale ? "stale" : "damaged");
    set(env, out, "problem", health.problem);
    return out;
}

napi_value make(napi_env env, const ModelInfo & info) {
    napi_value out = make_object(env);
    set(env, out, "name", info.name);
    set(env, out, "architecture", info.architecture);
    set(env, out, "quantization", info.quantization);
    set(env, out, "parameters", number(info.parameters));
    set(env, out, "fileBytes", number(info.file_bytes));
    set(env, out, "trainedContext", static_cast<double>(info.trained_context));
    set(env, out, "vocabulary", static_cast<double>(info.vocabulary));
    set(env, out, "embeddingSize", static_cast<double>(info.embedding_size));
    set(env, out, "layers", static_cast<double>(info.layers));
    set(env, out, "experts", static_cast<double>(info.experts));
    set(env, out, "hasChatTemplate", make_bool(env, info.has_chat_template));
    set(env, out, "recurrent", make_bool(env, info.recurrent));
    set(env, out, "hybrid", make_bool(env, info.hybrid));
    set(env, out, "pooling", info.pooling);
    return out;
}

napi_value make(napi_env env, const std::vector<HeldMemory> & held) {
    return make_list(env, held, [&](const HeldMemory & memory) {
        napi_value item = make_object(env);
        set(env, item, "device", memory.device);
        set(env, item, "source", memory.source);
        set(env, item, "bytes", number(memory.bytes));
        set(env, item, "fileBytes", number(memory.file_bytes));
        return item;
    });
}

napi_value make(napi_env env, const Placement & placement) {
    napi_value out = make_object(env);
    set(env, out, "devices", make_list(env, placement.devices, [&](const DevicePlacement & place) {
            napi_value item = make_object(env);
            set(env, item, "device", place.device);
            set(env, item, "weightBytes", number(place.weight_bytes));
            set(env, item, "kvBytes", number(place.kv_bytes));
            set(env, item, "stateBytes", number(place.state_bytes));
            set(env, item, "computeBytes", number(place.compute_bytes));
            set(env, item, "expertCacheBytes", number(place.expert_cache_bytes));
            return item;
        }));
    set(env, out, "weights", make_list(env, placement.weights, [&](const WeightPlace & place) {
            napi_value item = make_object(env);
            set(env, item, "device", place.device);
            set(env, item, "role", place.role);
            set(env, item, "layer", static_cast<double>(place.layer));
            set(env, item, "tensors", static_cast<double>(place.tensors));
            set(env, item, "bytes", number(place.bytes));
            return item;
        }));
    set(env, out, "refused", make_list(env, placement.refused, [&](const RefusedOperation & refused) {
            napi_value item = make_object(env);
            set(env, item, "operation", refused.operation);
            set(env, item, "device", refused.device);
            set(env, item, "types", refused.types);
            set(env, item, "weight", refused.weight);
            set(env, item, "layer", static_cast<double>(refused.layer));
            set(env, item, "count", static_cast<double>(refused.count));
            return item;
        }));
    set(env, out, "taken", make(env, placement.taken));
    set(env, out, "gpuLayers", static_cast<double>(placement.gpu_layers));
    set(env, out, "layers", static_cast<double>(placement.layers));
    set(env, out, "threads", static_cast<double>(placement.threads));
    const PackedFacts & packed = placement.packed;
    set(env, out, "kernels", packed.kernels);
    set(env, out, "packed", make_list(env, packed.kinds, [&](const kernels::PackedKind & kind) {
            napi_value item = make_object(env);
            set(env, item, "type", kind.type);
            set(env, item, "way", kind.way);
            set(env, item, "tensors", number(kind.tensors));
            set(env, item, "bytes", number(kind.bytes));
            return item;
        }));
    set(env, out, "packedBytes", number(packed.bytes));
    set(env, out, "packsFromCache", make_bool(env, packed.from_cache));
    set(env, out, "context", number(placement.context));
    set(env, out, "sequences", number(placement.sequences));
    set(env, out, "kvTokens", number(placement.kv_tokens));
    set(env, out, "sequenceIds", number(placement.sequence_ids));
    set(env, out, "ubatch", number(placement.ubatch));
    set(env, out, "flashAttention", make_bool(env, placement.fused_attention));
    set(env, out, "checkpoints", make_bool(env, placement.checkpoints));
    return out;
}

napi_value make(napi_env env, const DryRun & run) {
    napi_value out = make_object(env);
    set(env, out, "info", make(env, run.info));
    set(env, out, "placement", make(env, run.placement));
    return out;
}

napi_value make(napi_env env, const StepTimes & times) {
    napi_value out = make_object(env);
    set(env, out, "threads", number(times.threads));
    set(env, out, "points", make_list(env, times.points, [&](const StepTime & time) {
            napi_value item = make_object(env);
            set(env, item, "tokens", number(time.point.tokens));
            set(env, item, "depth", number(time.point.depth));
            set(env, item, "seconds", time.seconds);
            set(env, item, "unrest", time.unrest);
            set(env, item, "steps", number(time.steps));
            set(env, item, "wholeModel", make_bool(env, time.whole_model));
            return item;
        }));
    return out;
}

napi_value make_build_info(napi_env env) {
    napi_value out = make_object(env);
    for (const auto & [key, value] : build_facts()) {
        if (key != "cpu" && key != "backends") {
            set(env, out, key.c_str(), value);
            continue;
        }
        std::vector<std::string> words;
        std::istringstream stream(value);
        for (std::string word; stream >> word;) {
            words.push_back(word);
        }
        set(env, out, key.c_str(), make_list(env, words, [&](const std::string & word) { return make(env, word); }));
    }
    return out;
}

} // namespace ternion::binding
