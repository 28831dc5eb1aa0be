// How packed matrices get into llama.cpp: an extra buffer type of ggml's CPU backend.
//
// The model loader asks each extra buffer type whether it takes a weight's operation, and puts the weight into the first one
// that does; the CPU backend then hands that operation to it. Nothing upstream is patched.
#pragma once

#include "kernels.h"
#include "packed_memory.h"
#include "ways.h"

#include "ggml-backend.h"

#include <cstdint>
#include <functional>
#include <map>
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
constexpr uint32_t layout_version = 2;

/// Weights of one type that are held and multiplied in one way.
struct PackedKind {
    std::string type;
    std::string way;
    uint64_t tensors = 0;
    uint64_t bytes = 0; // in memory
};

/// Where one model's weights went. The memory lives as long as the model; whoever holds this keeps it alive.
struct PackedWeights {
    std::shared_ptr<PackedMemory> memory;
    std::vector<PackedEntry> entries;
    std::vector<PackedKind> kinds;
    uint64_t source_bytes = 0; // in the model's file
    bool stored = false;       // they came from a StoredPack: nothing was packed
};

struct LoadingOptions {
    StoredPack stored; // weights are taken from it if it has all of them, in the same places
    std::string way;   // for formats that have a way of this name; others take the fastest
    bool in_cache = false; // as TimedCase has it
    size_t n_threads = 1;
    std::function<void(const std::function<void()> &)> alone; // as TimedCase has it
};

/// While it lives, models that its thread loads get their weights packed for `kernels`; without one they stay as they are in the
/// file. Weights that are packed keep working when it is gone. One per thread.
class Loading {
  public:
    explicit Loading(const Kernels & kernels, LoadingOptions options = {});
    ~Loading();
    Loading(const Loading &) = delete;
    Loading & operator=(const Loading &) = delete;

    const Kernels & kernels() const { return kernels_; }
    StoredPack & stored() { return options_.stored; }
    /// How a weight is packed. The same for the same weight, as long as this lives. @throws std::bad_alloc
    const Way & way_of(const ggml_tensor * weight, SourceFormat format);
    /// Counts a weight that would be packed among `kinds`; its bytes. @throws std::bad_alloc
    uint64_t count(const ggml_tensor * weight, std::vector<PackedKind> & kinds);
    /// Ways are known of all weights: gives back what they were tried with.
    void nothing_more_to_try() { trial_memory_.reset(); }
    /// What was packed, of all buffers; usually there is one, or none.
    std::vector<std::shared_ptr<PackedWeights>> & packed() { return packed_; }
    /// Some weight does not fit into its layout: the model is wrong, and has to be loaded again with the way "ternary".
    bool & unfit() { return unfit_; }

  private:
    const Way & choose_way(const ggml_tensor * weight, SourceFormat format);

    const Kernels & kernels_;
    LoadingOptions options_;
    std::map<std::string, Layout> stored_layouts_;
    std::map<std::string, const Way *> ways_; // of weights that were asked for
    TrialMemory trial_memory_;
    std::vector<std::shared_ptr<PackedWeights>> packed_;
    bool unfit_ = false;
};

} // namespace ternion::kernels
