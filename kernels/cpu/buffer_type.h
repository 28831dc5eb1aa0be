// How packed matrices get into llama.cpp: an extra buffer type of ggml's CPU backend.
//
// The model loader asks each extra buffer type whether it takes a weight's operation, and puts the weight into the first one
// that does; the CPU backend then hands that operation to it. Nothing upstream is patched.
#pragma once

#include "kernels.h"

#include "ggml-backend.h"

#include <cstdint>

namespace ternion::kernels {

/// Adds the buffer type. Must run before the first model is loaded in the process: ggml's list is read once.
/// Idempotent, any thread, but not while a model loads.
void install_packed_weights();

/// The buffer type itself, for who puts weights into it without a model. Any thread.
ggml_backend_buffer_type_t packed_weights_buffer_type();

/// The kernels for models that are loaded from now on; null: upstream's, with weights as they are in the file. Weights that are
/// packed already keep working. Any thread.
void use_kernels(const Kernels * kernels);
const Kernels * kernels_in_use();

/// Weights that were packed since the process began. Any thread.
struct PackedTotals {
    uint64_t tensors;
    uint64_t bytes;
};
PackedTotals packed_totals();

} // namespace ternion::kernels
