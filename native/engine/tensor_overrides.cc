#include "tensor_overrides.h"

#include "placement.h"

#include <algorithm>
#include <utility>

namespace ternion {

Result<TensorOverrides> TensorOverrides::make(const std::vector<TensorOverride> & overrides, const std::vector<Device> & devices) {
    TensorOverrides made;
    made.overrides_ = overrides;
    if (overrides.size() >= llama_max_tensor_buft_overrides()) {
        return Error{ErrorCode::invalid_arg, "llama.cpp takes fewer than " + std::to_string(llama_max_tensor_buft_overrides()) + " patterns of tensors; there are " + std::to_string(overrides.size())};
    }
    for (const TensorOverride & override : made.overrides_) {
        ggml_backend_buffer_type_t type = override.device == "cpu" ? ggml_backend_cpu_buffer_type() : nullptr;
        const auto device = std::find_if(devices.begin(), devices.end(), [&](const Device & d) { return d.id == override.device; });
        if (device != devices.end()) {
            type = ggml_backend_dev_buffer_type(device->handle);
        } else if (!type) {
            return Error{ErrorCode::invalid_arg, "tensors /" + override.pattern + "/ shall go to device '" + override.device + "', which the model is not loaded on", {{"device", override.device}}};
        }
        try {
            made.patterns_.emplace_back(override.pattern);
        } catch (const std::regex_error & e) {
            return Error{ErrorCode::invalid_arg, "/" + override.pattern + "/ is no pattern of tensor names: " + e.what(), {{"pattern", override.pattern}}};
        }
        made.types_.push_back(type);
    }
    return made;
}

const llama_model_tensor_buft_override * TensorOverrides::list() {
    if (overrides_.empty()) {
        return nullptr;
    }
    list_.clear();
    for (size_t i = 0; i < overrides_.size(); ++i) {
        list_.push_back({overrides_[i].pattern.c_str(), types_[i]});
    }
    list_.push_back({nullptr, nullptr});
    return list_.data();
}

const TensorOverride * TensorOverrides::find(const std::string & tensor) const {
    for (size_t i = 0; i < patterns_.size(); ++i) {
        if (std::regex_search(tensor, patterns_[i])) {
            return &overrides_[i];
        }
    }
    return nullptr;
}

Result<bool> TensorOverrides::check(const llama_model * model) const {
    for (size_t i = 0; i < patterns_.size(); ++i) {
        const auto & tensors = llama_internal_get_tensor_map(model);
        if (overrides_[i].required && std::none_of(tensors.begin(), tensors.end(), [&](const auto & tensor) { return std::regex_search(tensor.first, patterns_[i]); })) {
            return Error{ErrorCode::invalid_arg, "/" + overrides_[i].pattern + "/ is found in no tensor's name of this model", {{"pattern", overrides_[i].pattern}}};
        }
    }
    return true;
}

} // namespace ternion
