// Slots in device memory for experts that lie in host memory: their tensors, within a budget.
#pragma once

#include "error.h"

#include "ggml-backend.h"
#include "llama.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace ternion {

/// A layer's routed experts.
struct ExpertLayer {
    /// One of its tensors, by expert in the last dimension, and the same by slot; null where it has none.
    struct Part {
        ggml_tensor * host = nullptr;
        ggml_tensor * slots = nullptr;
    };
    enum Name { gate_up, gate_up_b, up, up_b, gate, gate_b, down, down_b, names };

    int32_t layer = 0;
    uint32_t experts = 0;
    uint64_t expert_bytes = 0;           // of one expert, all parts
    ggml_backend_dev_t device = nullptr; // that has slots for it; null: none
    Part parts[names];
};

/// Immutable after make(), but for the bytes in the slots.
class ExpertSlots {
  public:
    /// All layers with routed experts. Those that lie in host memory as the file has them, beside a GPU that has the rest of the layer, get
    /// the same number of slots each, as many as `device_bytes` hold with one more slot of zeros; slot s of ours is index s + 1 there.
    /// invalid_arg if there are no such layers or not one slot fits, out_of_memory. `device_bytes` 0: no slots. Of a model that was loaded
    /// dry nothing is allocated.
    static Result<std::unique_ptr<ExpertSlots>> make(const llama_model & model, uint64_t device_bytes);

    const std::vector<ExpertLayer> & layers() const { return layers_; }
    uint32_t slots() const { return slots_; }
    /// By device id; what the buffers take.
    const std::map<std::string, uint64_t> & bytes() const { return bytes_; }
    /// Copies one expert into a slot. Any thread, while nobody computes with that slot. Throws what the backend throws.
    void upload(const ExpertLayer & layer, uint32_t expert, uint32_t slot) const;

  private:
    struct FreeContext {
        void operator()(ggml_context * context) const { ggml_free(context); }
    };
    struct FreeBuffer {
        void operator()(ggml_backend_buffer_t buffer) const { ggml_backend_buffer_free(buffer); }
    };
    using ContextPtr = std::unique_ptr<ggml_context, FreeContext>;

    ExpertSlots() = default;
    void find_layers(const llama_model & model);
    bool lay_out(uint32_t slots); // false if the device does not compute with tensors of that size
    uint64_t total() const;
    Result<bool> allocate(bool dry);

    std::vector<ExpertLayer> layers_;
    uint32_t slots_ = 0;
    std::map<std::string, uint64_t> bytes_;
    std::map<ggml_backend_dev_t, ContextPtr> contexts_;
    std::vector<std::unique_ptr<ggml_backend_buffer, FreeBuffer>> buffers_; // freed before the contexts
};

} // namespace ternion
