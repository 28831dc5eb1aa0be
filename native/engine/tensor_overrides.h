// Weights that go to another device than their layer: a mixture's experts in host memory, first of all.
#pragma once

#include "backend.h"
#include "error.h"

#include "llama.h"

#include <regex>
#include <string>
#include <vector>

namespace ternion {

/// The first pattern (ECMAScript) that is found in a tensor's name decides.
struct TensorOverride {
    std::string pattern;
    std::string device;   // "cpu", or one of those that the model is loaded on
    bool required = true; // found in no tensor's name is an error
};

class TensorOverrides {
  public:
    /// invalid_arg for a pattern that is none, and for a device beside `devices`.
    static Result<TensorOverrides> make(const std::vector<TensorOverride> & overrides, const std::vector<Device> & devices);

    /// As llama_model_params takes it, null if there are none; valid while this lives and is not moved.
    const llama_model_tensor_buft_override * list();
    /// Null if no pattern is found in the name.
    const TensorOverride * find(const std::string & tensor) const;
    /// invalid_arg if some pattern is found in no tensor's name.
    Result<bool> check(const llama_model * model) const;

  private:
    std::vector<TensorOverride> overrides_;
    std::vector<std::regex> patterns_;
    std::vector<ggml_backend_buffer_type_t> types_;
    std::vector<llama_model_tensor_buft_override> list_;
};

} // namespace ternion
