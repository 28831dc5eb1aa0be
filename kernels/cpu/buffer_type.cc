#include "buffer_type.h"

#include "packed_tensor.h"
#include "shared_activations.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>

namespace ternion::kernels {
namespace {

thread_local Loading * loading = nullptr;

ggml_backend_buffer_type_t buffer_type();

size_t bytes_of(const ggml_tensor * tensor, const Way & way) {
    return packed_bytes(way.layout, static_cast<size_t>(tensor->ne[1]), static_cast<size_t>(tensor->ne[0])) * static_cast<size_t>(tensor->ne[2]);
}

class ExtraBufferType : public ggml::cpu::extra_buffer_type {
  public:
    bool supports_op(ggml_backend_dev_t, const ggml_tensor * op) override {
        const ggml_tensor * weight = op->src[0];
        if (!PackedTensor::takes(op) || !weight->buffer || weight->buffer->buft != buffer_type()) {
            return false;
        }
        // The loader asks with an empty buffer whether weights shall come here; later on they are here.
        SourceFormat format{};
        if (weight->buffer->size == 0 && (!loading || !source_format(weight, format))) {
            return false;
        }
        if (op->op == GGML_OP_MUL_MAT && weight->ne[2] != 1) {
            return false;
        }
        const ggml_tensor * in = op->src[1];
        if (in->buffer && !ggml_backend_buft_is_host(in->buffer->buft)) {
            return false;
        }
        return in->type == GGML_TYPE_F32 && in->nb[0] == sizeof(float) && op->type == GGML_TYPE_F32;
    }

    ggml::cpu::tensor_traits * get_tensor_traits(const ggml_tensor * op) override {
        const ggml_tensor * weight = op->src[0];
        const bool ours = PackedTensor::takes(op) && weight->buffer && weight->buffer->buft == buffer_type();
        return ours ? static_cast<ggml::cpu::tensor_traits *>(weight->extra) : nullptr;
    }
};

// ---- buffer ---------------------------------------------------------------------------------------------------------

/// The memory of a buffer, and the weights in it.
struct Buffer {
    std::shared_ptr<PackedWeights> weights = std::make_shared<PackedWeights>();
    std::vector<PackedEntry> stored; // what the memory has already, by offset
    std::deque<PackedTensor> tensors; // where they are stays the same: ggml's tensors refer to them
};

Buffer & contents(ggml_backend_buffer_t buffer) {
    return *static_cast<Buffer *>(buffer->context);
}

void free_buffer(ggml_backend_buffer_t buffer) {
    delete &contents(buffer);
}

void * base_of(ggml_backend_buffer_t buffer) {
    return contents(buffer).weights->memory->data();
}

PackedEntry entry_of(const ggml_tensor * tensor, const Way & way, const uint8_t * base) {
    const auto n = [&](int i) { return static_cast<uint64_t>(tensor->ne[i]); };
    return {tensor->name, tensor->type, way.layout, {n(0), n(1), n(2)}, static_cast<uint64_t>(static_cast<const uint8_t *>(tensor->data) - base)};
}

void count(std::vector<PackedKind> & kinds, const ggml_tensor * tensor, const Way & way) {
    const std::string type = ggml_type_name(tensor->type);
    auto kind = std::find_if(kinds.begin(), kinds.end(), [&](const PackedKind & k) { return k.type == type && k.way == way.name; });
    if (kind == kinds.end()) {
        kind = kinds.insert(kinds.end(), {type, way.name});
    }
    kind->tensors++;
    kind->bytes += bytes_of(tensor, way);
}

ggml_status init_tensor(ggml_backend_buffer_t buffer, ggml_tensor * tensor) {
    SourceFormat format{};
    if (!loading || !source_format(tensor, format)) {
        return GGML_STATUS_FAILED;
    }
    Buffer & b = contents(buffer);
    try {
        const Way & way = loading->way_of(tensor, format);
        tensor->extra = static_cast<ggml::cpu::tensor_traits *>(&b.tensors.emplace_back(loading->kernels(), format, tensor, way));
        PackedEntry entry = entry_of(tensor, way, b.weights->memory->data());
        if (b.weights->stored && std::find(b.stored.begin(), b.stored.end(), entry) == b.stored.end()) {
            // Another model's after all. No weight has been set yet: the loader makes all tensors first.
            b.weights->stored = false;
            if (!b.weights->memory->replace_mapping()) {
                return GGML_STATUS_ALLOC_FAILED;
            }
        }
        b.weights->entries.push_back(std::move(entry));
        count(b.weights->kinds, tensor, way);
    } catch (const std::bad_alloc &) {
        return GGML_STATUS_ALLOC_FAILED;
    }
    return GGML_STATUS_SUCCESS;
}

void set_tensor(ggml_backend_buffer_t buffer, ggml_tensor * tensor, const void * data, size_t offset, size_t size) {
    GGML_ASSERT(offset == 0 && size == ggml_nbytes(tensor) && "weights that are packed are set as a whole");
    PackedWeights & weights = *contents(buffer).weights;
    weights.source_bytes += size;
    if (!weights.stored) {
        const auto * packed = static_cast<PackedTensor *>(static_cast<ggml::cpu::tensor_traits *>(tensor->extra));
        const bool whole = packed->pack_all(static_cast<const uint8_t *>(data), static_cast<uint8_t *>(tensor->data));
        GGML_ASSERT((whole || loading) && "weights are set while their Loading lives");
        if (!whole) {
            loading->unfit() = true;
        }
    }
}

void get_tensor(ggml_backend_buffer_t, const ggml_tensor *, void *, size_t, size_t) {
    GGML_ABORT("weights that are packed cannot be read back");
}

void clear(ggml_backend_buffer_t buffer, uint8_t value) {
    PackedWeights & weights = *contents(buffer).weights;
    if (!weights.stored) {
        std::memset(weights.memory->data(), value, buffer->size);
    }
}

const char * buffer_type_name(ggml_backend_buffer_type_t) {
    return "CPU_TERNION";
}

ggml_backend_buffer_t allocate(ggml_backend_buffer_type_t type, size_t size) {
    std::unique_ptr<Buffer> buffer;
    try {
        buffer = std::make_unique<Buffer>();
        if (loading && size > 0) {
            loading->nothing_more_to_try();
        }
        if (loading && loading->stored().memory && loading->stored().memory->bytes() == size) {
            buffer->weights->memory = std::move(loading->stored().memory);
            buffer->weights->stored = true;
            buffer->stored = std::move(loading->stored().entries);
        } else {
            buffer->weights->memory = std::make_shared<PackedMemory>(size);
        }
        if (loading) {
            loading->packed().push_back(buffer->weights);
        }
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
    ggml_backend_buffer_i interface = {};
    interface.free_buffer = free_buffer;
    interface.get_base = base_of;
    interface.init_tensor = init_tensor;
    interface.set_tensor = set_tensor;
    interface.get_tensor = get_tensor;
    interface.clear = clear;
    return ggml_backend_buffer_init(type, interface, buffer.release(), size);
}

size_t alignment_of(ggml_backend_buffer_type_t) {
    return 64;
}

size_t allocated_bytes(ggml_backend_buffer_type_t, const ggml_tensor * tensor) {
    SourceFormat format{};
    if (!loading || !source_format(tensor, format)) {
        return ggml_nbytes(tensor);
    }
    try {
        return bytes_of(tensor, loading->way_of(tensor, format));
    } catch (const std::bad_alloc &) {
        return SIZE_MAX / 4; // which nobody allocates; an exception would go through C
    }
}

ggml_backend_buffer_type_t buffer_type() {
    static ExtraBufferType * const context = new ExtraBufferType; // used until the process ends
    static ggml_backend_buffer_type type = {
        {buffer_type_name, allocate, alignment_of, nullptr, allocated_bytes, nullptr},
        ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0),
        context,
    };
    return &type;
}

} // namespace

void install_packed_weights() {
    static const bool once = [] {
        auto & types = ggml_backend_cpu_get_extra_buffer_types();
        install_shared_activations();
        types.insert(types.begin(), buffer_type()); // before upstream's own repacking, which takes Q8_0 on some machines
        return true;
    }();
    (void) once;
}

ggml_backend_buffer_type_t packed_weights_buffer_type() {
    return buffer_type();
}

Loading::Loading(const Kernels & kernels, LoadingOptions options) : kernels_(kernels), options_(std::move(options)) {
    for (const PackedEntry & entry : options_.stored.entries) {
        stored_layouts_.emplace(entry.name, entry.layout);
    }
    loading = this;
}

const Way & Loading::way_of(const ggml_tensor * weight, SourceFormat format) {
    const std::string key = std::string(weight->name) + " " + std::to_string(weight->type) + " " + std::to_string(weight->ne[0]) + " " + std::to_string(weight->ne[1]);
    const auto known = ways_.find(key);
    return known != ways_.end() ? *known->second : *ways_.emplace(key, &choose_way(weight, format)).first->second;
}

uint64_t Loading::count(const ggml_tensor * weight, std::vector<PackedKind> & kinds) {
    SourceFormat format{};
    if (!source_format(weight, format)) {
        return 0;
    }
    const Way & way = way_of(weight, format);
    kernels::count(kinds, weight, way);
    return bytes_of(weight, way);
}

const Way & Loading::choose_way(const ggml_tensor * weight, SourceFormat format) {
    const auto ways = ways_of(kernels_, format);
    const auto first = [&](auto wanted) { return std::find_if(ways.begin(), ways.end(), wanted); };
    if (const auto named = first([&](const Way & way) { return way.name == options_.way; }); named != ways.end()) {
        return *named;
    }
    // What is stored was the fastest once. Which of several ways with the same layout is, the pack does not say.
    if (const auto stored = stored_layouts_.find(weight->name); stored != stored_layouts_.end()) {
        const auto alike = [&](const Way & way) { return way.layout == stored->second; };
        if (std::count_if(ways.begin(), ways.end(), alike) == 1) {
            return *first(alike);
        }
    }
    return Timings::instance().fastest({kernels_, format, static_cast<size_t>(weight->ne[1]), static_cast<size_t>(weight->ne[0]), options_.in_cache, options_.n_threads, options_.alone}, trial_memory_);
}

Loading::~Loading() {
    loading = nullptr;
}

} // namespace ternion::kernels
