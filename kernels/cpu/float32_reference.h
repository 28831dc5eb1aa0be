// Products of weights as a file has them with activations that nobody rounded: slow, and a reference for kernels that round.
//
// An extra buffer type of ggml's CPU backend, as that of packed weights (buffer_type.h). Weights lie in it in the file's format.
#pragma once

#include "ggml-backend.h"

#include <cstdint>

namespace ternion::kernels {

/// Adds the buffer type. Must run before the first model is loaded in the process: ggml's list is read once.
/// Idempotent, any thread, but not while a model loads.
void install_float32_reference();

/// The buffer type itself, for who puts weights into it without a model. Any thread.
ggml_backend_buffer_type_t float32_reference_buffer_type();

/// While it lives, models that its thread loads have their products (MUL_MAT, MUL_MAT_ID, weights of any type) computed from single-
/// precision weights and activations, summed in double precision. One per thread.
class Float32Loading {
  public:
    Float32Loading();
    ~Float32Loading();
    Float32Loading(const Float32Loading &) = delete;
    Float32Loading & operator=(const Float32Loading &) = delete;

    /// Of the weights that are computed with like that.
    uint64_t bytes() const { return bytes_; }
    void add(uint64_t bytes) { bytes_ += bytes; }

  private:
    uint64_t bytes_ = 0;
};

} // namespace ternion::kernels
