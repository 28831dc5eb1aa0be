// How packed matrices get into llama.cpp: an extra buffer type of ggml's CPU backend.
//
// The model loader asks each extra buffer type whether it takes a weight's operation, and puts the weight into the first one
// that does; the CPU backend then hands that operation to it. Nothing upstream is patched.
#pragma once

#include "kernels.h"
#include "packed_memory.h"

#include "ggml-backend.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ternion::kernels {

/// Adds the buffer type. Must run before the first model is loaded in the process: ggml's list is read once.
/// Idempotent, any thread, but not while a model loads.
void install_packed_weights();

/// The buffer type itself, for who puts weights into it without a model, under a Loading of its own. Any thread.
ggml_backend_buffer_type_t packed_weights_buffer_type();

/// A weight in packed memory.
struct PackedEntry {
    std::string name;
    int32_t type; // ggml's, of the file
    Layout layout;
    uint64_t shape[3];
    uint64_t offset; // bytes, from the start of the memory

    bool operator==(const PackedEntry &) const = default;
};

/// Weights that were packed before, as memory and what lies where in it.
struct StoredPack {
    std::unique_ptr<PackedMemory> memory;
    std::vector<PackedEntry> entries;
};

/// A change of what is stored under the name of a layout. Packs of other versions are of no use.
constexpr uint32_t layout_version = 1;

/// Where one model's weights went. The memory lives as long as the model; whoever holds this keeps it alive.
struct PackedWeights {
    std::shared_ptr<PackedMemory> memory;
    std::vector<PackedEntry> entries;
    uint64_t source_bytes = 0; // in the model's file
    bool stored = false;       // they came from a StoredPack: nothing was packed
};

/// While it lives, models that its thread loads get their weights packed for `kernels`; without one they stay as they are in the
/// file. Weights that are packed keep working when it is gone. One per thread.
class Loading {
  public:
    /// Weights are taken from `stored` if it has all of them, in the same places.
    explicit Loading(const Kernels & kernels, StoredPack stored = {});
    ~Loading();
    Loading(const Loading &) = delete;
    Loading & operator=(const Loading &) = delete;

    const Kernels & kernels() const { return kernels_; }
    StoredPack & stored() { return stored_; }
    /// What was packed, of all buffers; usually there is one, or none.
    std::vector<std::shared_ptr<PackedWeights>> & packed() { return packed_; }

  private:
    const Kernels & kernels_;
    StoredPack stored_;
    std::vector<std::shared_ptr<PackedWeights>> packed_;
};

} // namespace ternion::kernels
