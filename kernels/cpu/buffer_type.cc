#include "buffer_type.h"

#include "matmul.h"

#include "ggml-backend-impl.h"
#include "ggml-cpu.h"
#include "ggml-cpu/traits.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
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
        case GGML_TYPE_TQ1_0: format = SourceFormat::tq1_0; break;
        case GGML_TYPE_TQ2_0: format = SourceFormat::tq2_0; break;
        case GGML_TYPE_Q8_0:  format = SourceFormat::q8_0; break;
        default:              return false;
    }
    return weight->ne[2] == 1 && weight->ne[3] == 1;
}

PackedMatrix matrix_of(const ggml_tensor * weight) {
    SourceFormat format{};
    (void) source_format(weight, format);
    return {format, static_cast<const uint8_t *>(weight->data), static_cast<size_t>(weight->ne[1]), static_cast<size_t>(weight->ne[0])};
}

Columns columns_of(const ggml_tensor * t) {
    return {static_cast<char *>(t->data), static_cast<size_t>(t->ne[1]), static_cast<size_t>(t->ne[2]), t->nb[1], t->nb[2], t->nb[3]};
}

/// What ggml calls for an operation on a packed weight. One for each set of kernels: a weight is computed with those that were
/// in use when it was loaded.
class Traits : public ggml::cpu::tensor_traits {
  public:
    explicit Traits(const Kernels & kernels) : kernels_(kernels) {}

    bool work_size(int n_threads, const ggml_tensor * op, size_t & size) override {
        if (op->op != GGML_OP_MUL_MAT) {
            return false;
        }
        size = matmul_scratch(matrix_of(op->src[0]), static_cast<size_t>(ggml_nrows(op->src[1])), static_cast<size_t>(n_threads));
        return true;
    }

    bool compute_forward(ggml_compute_params * params, ggml_tensor * op) override {
        if (op->op != GGML_OP_MUL_MAT) {
            return false;
        }
        const Worker worker{static_cast<size_t>(params->ith), static_cast<size_t>(params->nth), params->threadpool};
        matmul(kernels_, matrix_of(op->src[0]), columns_of(op->src[1]), columns_of(op), static_cast<size_t>(ggml_nrows(op->src[1])), params->wdata, worker);
        return true;
    }

    const Kernels & kernels() const { return kernels_; }

  private:
    const Kernels & kernels_;
};

Traits * traits_of(const Kernels * kernels) {
    static std::mutex mutex;
    static std::vector<Traits *> all; // live as long as the process: weights refer to them
    const std::lock_guard lock(mutex);
    const auto found = std::find_if(all.begin(), all.end(), [&](const Traits * traits) { return &traits->kernels() == kernels; });
    return found == all.end() ? all.emplace_back(new Traits(*kernels)) : *found;
}

class PackedWeights : public ggml::cpu::extra_buffer_type {
  public:
    bool supports_op(ggml_backend_dev_t, const ggml_tensor * op) override {
        const ggml_tensor * weight = op->src[0];
        SourceFormat format{};
        if (op->op != GGML_OP_MUL_MAT || !weight->buffer || weight->buffer->buft != buffer_type() || !source_format(weight, format)) {
            return false;
        }
        // The loader asks with an empty buffer whether weights shall come here; later on they are here.
        if (weight->buffer->size == 0 && !kernels_for_loading) {
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
        const bool ours = op->op == GGML_OP_MUL_MAT && weight->buffer && weight->buffer->buft == buffer_type();
        return ours ? static_cast<ggml::cpu::tensor_traits *>(weight->extra) : nullptr;
    }
};

// ---- buffer ---------------------------------------------------------------------------------------------------------

constexpr size_t alignment = 64;

void free_buffer(ggml_backend_buffer_t buffer) {
    ::operator delete(buffer->context, std::align_val_t{alignment});
}

void * base_of(ggml_backend_buffer_t buffer) {
    return buffer->context;
}

ggml_status init_tensor(ggml_backend_buffer_t, ggml_tensor * tensor) {
    const Kernels * kernels = kernels_for_loading;
    SourceFormat format{};
    if (!kernels || !source_format(tensor, format)) {
        return GGML_STATUS_FAILED;
    }
    tensor->extra = static_cast<ggml::cpu::tensor_traits *>(traits_of(kernels));
    return GGML_STATUS_SUCCESS;
}

// Packing reads and writes memory at its own speed, so a few threads are enough.
void pack_with_threads(const PackedMatrix & matrix, const uint8_t * source, uint8_t * packed) {
    constexpr size_t most_threads = 8, worth_a_thread = 64;
    const size_t groups = row_groups(matrix.rows);
    const size_t n = std::clamp<size_t>(std::min<size_t>(std::thread::hardware_concurrency(), groups / worth_a_thread), 1, most_threads);
    const auto part = [&](size_t i) { pack(matrix.format, source, packed, matrix.rows, matrix.columns, groups * i / n, groups * (i + 1) / n); };
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
    pack_with_threads(matrix_of(tensor), static_cast<const uint8_t *>(data), static_cast<uint8_t *>(tensor->data));
    packed_tensors++;
    packed_tensor_bytes += size;
}

void get_tensor(ggml_backend_buffer_t, const ggml_tensor *, void *, size_t, size_t) {
    GGML_ABORT("weights that are packed cannot be read back");
}

void clear(ggml_backend_buffer_t buffer, uint8_t value) {
    std::memset(buffer->context, value, buffer->size);
}

const char * buffer_type_name(ggml_backend_buffer_type_t) {
    return "CPU_TERNION";
}

ggml_backend_buffer_t allocate(ggml_backend_buffer_type_t type, size_t size) {
    void * memory = ::operator new(std::max<size_t>(size, alignment), std::align_val_t{alignment}, std::nothrow);
    if (!memory) {
        return nullptr;
    }
    ggml_backend_buffer_i interface = {};
    interface.free_buffer = free_buffer;
    interface.get_base = base_of;
    interface.init_tensor = init_tensor;
    interface.set_tensor = set_tensor;
    interface.get_tensor = get_tensor;
    interface.clear = clear;
    return ggml_backend_buffer_init(type, interface, memory, size);
}

size_t alignment_of(ggml_backend_buffer_type_t) {
    return alignment;
}

size_t bytes_of(ggml_backend_buffer_type_t, const ggml_tensor * tensor) {
    SourceFormat format{};
    return source_format(tensor, format) ? packed_bytes(format, static_cast<size_t>(tensor->ne[1]), static_cast<size_t>(tensor->ne[0])) : ggml_nbytes(tensor);
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
