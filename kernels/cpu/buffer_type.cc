#include "buffer_type.h"

#include "matmul.h"

#include "../formats/pack.h"

#include "ggml-backend-impl.h"
#include "ggml-cpu.h"
#include "ggml-cpu/traits.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <new>
#include <thread>
#include <vector>

namespace ternion::kernels {
namespace {

std::atomic<const Kernels *> kernels_for_loading{nullptr};
std::atomic<uint64_t> packed_tensors{0};
std::atomic<uint64_t> packed_tensor_bytes{0};

ggml_backend_buffer_type_t buffer_type();

/// The format of a weight that this buffer type takes, or false.
bool source_format(const ggml_tensor * weight, SourceFormat & format) {
    switch (weight->type) {
        case GGML_TYPE_TQ1_0:  format = SourceFormat::tq1_0; break;
        case GGML_TYPE_TQ2_0:  format = SourceFormat::tq2_0; break;
        case GGML_TYPE_Q8_0:   format = SourceFormat::q8_0; break;
        case GGML_TYPE_STQ1_0: format = SourceFormat::stq1_0; break;
        default:               return false;
    }
    return weight->ne[3] == 1;
}

Layout layout_of(SourceFormat format, const Kernels & kernels) {
    switch (format) {
        case SourceFormat::q8_0:   return Layout::bytes;
        case SourceFormat::stq1_0: return kernels.stq1_0->layout;
        default:                   return Layout::ternary;
    }
}

Columns columns_of(const ggml_tensor * t) {
    return {static_cast<char *>(t->data), static_cast<size_t>(t->ne[1]), static_cast<size_t>(t->ne[2]), t->nb[1], t->nb[2], t->nb[3]};
}

/// The experts that a MUL_MAT_ID asks for.
Routing routing_of(const ggml_tensor * op) {
    if (op->op == GGML_OP_MUL_MAT) {
        return {};
    }
    const ggml_tensor * ids = op->src[2];
    return {static_cast<const char *>(ids->data), static_cast<size_t>(ids->ne[0]), ids->nb[0], ids->nb[1], static_cast<size_t>(op->src[1]->ne[1])};
}

/// A packed weight, and what ggml calls for an operation on it. It is computed with the kernels that were in use when it was loaded.
class PackedTensor : public ggml::cpu::tensor_traits {
  public:
    PackedTensor(const Kernels & kernels, SourceFormat format, const ggml_tensor * weight)
        : kernels_(kernels), format_(format), matrix_{layout_of(format, kernels), static_cast<const uint8_t *>(weight->data), static_cast<size_t>(weight->ne[1]),
                                                      static_cast<size_t>(weight->ne[0]), static_cast<size_t>(weight->ne[2])} {}

    bool work_size(int n_threads, const ggml_tensor * op, size_t & size) override {
        if (!takes(op)) {
            return false;
        }
        size = matmul_scratch(kernels_, matrix_, static_cast<size_t>(ggml_nrows(op)), static_cast<size_t>(n_threads));
        return true;
    }

    bool compute_forward(ggml_compute_params * params, ggml_tensor * op) override {
        if (!takes(op)) {
            return false;
        }
        const Worker worker{static_cast<size_t>(params->ith), static_cast<size_t>(params->nth), params->threadpool};
        matmul(kernels_, matrix_, columns_of(op->src[1]), columns_of(op), routing_of(op), static_cast<size_t>(ggml_nrows(op)), params->wdata, worker);
        return true;
    }

    static bool takes(const ggml_tensor * op) { return op->op == GGML_OP_MUL_MAT || op->op == GGML_OP_MUL_MAT_ID; }

    SourceFormat format() const { return format_; }
    const PackedMatrix & matrix() const { return matrix_; }

  private:
    const Kernels & kernels_;
    SourceFormat format_;
    PackedMatrix matrix_;
};

class PackedWeights : public ggml::cpu::extra_buffer_type {
  public:
    bool supports_op(ggml_backend_dev_t, const ggml_tensor * op) override {
        const ggml_tensor * weight = op->src[0];
        SourceFormat format{};
        if (!PackedTensor::takes(op) || !weight->buffer || weight->buffer->buft != buffer_type() || !source_format(weight, format)) {
            return false;
        }
        // The loader asks with an empty buffer whether weights shall come here; later on they are here.
        if (weight->buffer->size == 0 && !kernels_for_loading) {
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

constexpr size_t alignment = 64;

/// The memory of a buffer, and the weights in it.
struct Buffer {
    uint8_t * memory;
    std::deque<PackedTensor> weights; // where they are stays the same: tensors refer to them

    explicit Buffer(size_t size) : memory(static_cast<uint8_t *>(::operator new(std::max<size_t>(size, alignment), std::align_val_t{alignment}))) {}
    ~Buffer() { ::operator delete(memory, std::align_val_t{alignment}); }
    Buffer(const Buffer &) = delete;
    Buffer & operator=(const Buffer &) = delete;
};

Buffer & contents(ggml_backend_buffer_t buffer) {
    return *static_cast<Buffer *>(buffer->context);
}

void free_buffer(ggml_backend_buffer_t buffer) {
    delete &contents(buffer);
}

void * base_of(ggml_backend_buffer_t buffer) {
    return contents(buffer).memory;
}

ggml_status init_tensor(ggml_backend_buffer_t buffer, ggml_tensor * tensor) {
    const Kernels * kernels = kernels_for_loading;
    SourceFormat format{};
    if (!kernels || !source_format(tensor, format)) {
        return GGML_STATUS_FAILED;
    }
    try {
        tensor->extra = static_cast<ggml::cpu::tensor_traits *>(&contents(buffer).weights.emplace_back(*kernels, format, tensor));
    } catch (const std::bad_alloc &) {
        return GGML_STATUS_ALLOC_FAILED;
    }
    return GGML_STATUS_SUCCESS;
}

// Packing reads and writes memory at its own speed, so a few threads are enough.
void pack_with_threads(const PackedTensor & weight, const uint8_t * source, uint8_t * packed) {
    constexpr size_t most_threads = 8, worth_a_thread = 64;
    const PackedMatrix & matrix = weight.matrix();
    const size_t per_matrix = row_groups(matrix.rows), groups = per_matrix * matrix.count;
    const size_t source_bytes = matrix.rows * source_row_bytes(weight.format(), matrix.columns);
    const size_t bytes = packed_bytes(matrix.layout, matrix.rows, matrix.columns);
    const size_t n = std::clamp<size_t>(std::min<size_t>(std::thread::hardware_concurrency(), groups / worth_a_thread), 1, most_threads);
    const auto part = [&](size_t i) {
        const size_t last = groups * (i + 1) / n;
        for (size_t group = groups * i / n; group < last;) {
            const size_t m = group / per_matrix, first = group % per_matrix;
            const size_t end = std::min(per_matrix, first + last - group);
            pack(weight.format(), matrix.layout, source + m * source_bytes, packed + m * bytes, matrix.rows, matrix.columns, first, end);
            group += end - first;
        }
    };
    std::vector<std::thread> others;
    size_t begun = 1;
    try {
        for (; begun < n; ++begun) {
            others.emplace_back(part, begun);
        }
    } catch (const std::exception &) {
        // No more threads to be had: the rest is packed here.
    }
    part(0);
    for (; begun < n; ++begun) {
        part(begun);
    }
    for (std::thread & thread : others) {
        thread.join();
    }
}

void set_tensor(ggml_backend_buffer_t, ggml_tensor * tensor, const void * data, size_t offset, size_t size) {
    GGML_ASSERT(offset == 0 && size == ggml_nbytes(tensor) && "weights that are packed are set as a whole");
    pack_with_threads(*static_cast<PackedTensor *>(static_cast<ggml::cpu::tensor_traits *>(tensor->extra)), static_cast<const uint8_t *>(data), static_cast<uint8_t *>(tensor->data));
    packed_tensors++;
    packed_tensor_bytes += size;
}

void get_tensor(ggml_backend_buffer_t, const ggml_tensor *, void *, size_t, size_t) {
    GGML_ABORT("weights that are packed cannot be read back");
}

void clear(ggml_backend_buffer_t buffer, uint8_t value) {
    std::memset(contents(buffer).memory, value, buffer->size);
}

const char * buffer_type_name(ggml_backend_buffer_type_t) {
    return "CPU_TERNION";
}

ggml_backend_buffer_t allocate(ggml_backend_buffer_type_t type, size_t size) {
    Buffer * contents = nullptr;
    try {
        contents = new Buffer(size);
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
    return ggml_backend_buffer_init(type, interface, contents, size);
}

size_t alignment_of(ggml_backend_buffer_type_t) {
    return alignment;
}

size_t bytes_of(ggml_backend_buffer_type_t, const ggml_tensor * tensor) {
    const Kernels * kernels = kernels_for_loading;
    SourceFormat format{};
    if (!kernels || !source_format(tensor, format)) {
        return ggml_nbytes(tensor);
    }
    return packed_bytes(layout_of(format, *kernels), static_cast<size_t>(tensor->ne[1]), static_cast<size_t>(tensor->ne[0])) * static_cast<size_t>(tensor->ne[2]);
}

ggml_backend_buffer_type_t buffer_type() {
    static PackedWeights * const context = new PackedWeights; // used until the process ends
    static ggml_backend_buffer_type type = {
        {buffer_type_name, allocate, alignment_of, nullptr, bytes_of, nullptr},
        ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0),
        context,
    };
    return &type;
}

} // namespace

void install_packed_weights() {
    static const bool once = [] {
        auto & types = ggml_backend_cpu_get_extra_buffer_types();
        types.insert(types.begin(), buffer_type()); // before upstream's own repacking, which takes Q8_0 on some machines
        return true;
    }();
    (void) once;
}

ggml_backend_buffer_type_t packed_weights_buffer_type() {
    return buffer_type();
}

void use_kernels(const Kernels * kernels) {
    kernels_for_loading = kernels;
}

const Kernels * kernels_in_use() {
    return kernels_for_loading;
}

PackedTotals packed_totals() {
    return {packed_tensors, packed_tensor_bytes};
}

} // namespace ternion::kernels
