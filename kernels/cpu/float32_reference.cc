#include "float32_reference.h"

#include "ggml-backend-impl.h"
#include "ggml-cpu.h"
#include "ggml-cpu/traits.h"

#include <array>
#include <cstddef>
#include <cstring>

namespace ternion::kernels {
namespace {

thread_local Float32Loading * loading = nullptr;

bool is_product(const ggml_tensor * op) {
    return op->op == GGML_OP_MUL_MAT || op->op == GGML_OP_MUL_MAT_ID;
}

bool is_here(const ggml_tensor * weight) {
    return weight && weight->buffer && weight->buffer->buft == float32_reference_buffer_type();
}

bool can_be_dequantised(ggml_type type) {
    return type == GGML_TYPE_F32 || ggml_get_type_traits(type)->to_float;
}

// The products of two single-precision numbers are exact in double precision.
double dot(const float * a, const float * b, size_t n) {
    std::array<double, 8> sums{};
    size_t i = 0;
    for (; i + sums.size() <= n; i += sums.size()) {
        for (size_t j = 0; j < sums.size(); ++j) {
            sums[j] += static_cast<double>(a[i + j]) * static_cast<double>(b[i + j]);
        }
    }
    for (; i < n; ++i) {
        sums[0] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    }
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

template <typename T>
T * at(const ggml_tensor * t, int64_t i1, int64_t i2, int64_t i3) {
    return reinterpret_cast<T *>(static_cast<char *>(t->data) + static_cast<size_t>(i1) * t->nb[1] + static_cast<size_t>(i2) * t->nb[2] +
                                 static_cast<size_t>(i3) * t->nb[3]);
}

/// What one thread computes: some rows of the weights with all columns. No thread waits for another.
struct Part {
    const ggml_tensor * op;
    const ggml_tensor * weight = op->src[0];
    const ggml_tensor * in = op->src[1];
    int64_t first, last; // rows
    float * room;        // for one row

    const float * row(int64_t r, int64_t i2, int64_t i3) const {
        const void * const data = at<const void>(weight, r, i2, i3);
        if (weight->type == GGML_TYPE_F32) {
            return static_cast<const float *>(data);
        }
        ggml_get_type_traits(weight->type)->to_float(data, room, weight->ne[0]);
        return room;
    }

    void multiply(const float * weights, int64_t r, const float * column, float * out) const {
        out[r] = static_cast<float>(dot(weights, column, static_cast<size_t>(weight->ne[0])));
    }

    // Matrices of the weights are shared by as many of the activations as these are more.
    void mul_mat() const {
        const int64_t per_matrix = in->ne[2] / weight->ne[2], per_outer = in->ne[3] / weight->ne[3];
        for (int64_t i3 = 0; i3 < in->ne[3]; ++i3) {
            for (int64_t i2 = 0; i2 < in->ne[2]; ++i2) {
                for (int64_t r = first; r < last; ++r) {
                    const float * const weights = row(r, i2 / per_matrix, i3 / per_outer);
                    for (int64_t c = 0; c < in->ne[1]; ++c) {
                        multiply(weights, r, at<float>(in, c, i2, i3), at<float>(op, c, i2, i3));
                    }
                }
            }
        }
    }

    void mul_mat_id() const {
        const ggml_tensor * const ids = op->src[2]; // [token][slot]: the expert
        for (int64_t expert = 0; expert < weight->ne[2]; ++expert) {
            for (int64_t r = first; r < last; ++r) {
                const float * weights = nullptr;
                for (int64_t token = 0; token < ids->ne[1]; ++token) {
                    for (int64_t slot = 0; slot < ids->ne[0]; ++slot) {
                        int32_t chosen = 0;
                        std::memcpy(&chosen, at<char>(ids, token, 0, 0) + static_cast<size_t>(slot) * ids->nb[0], sizeof(chosen));
                        if (chosen != expert) {
                            continue;
                        }
                        weights = weights ? weights : row(r, expert, 0);
                        multiply(weights, r, at<float>(in, slot % in->ne[1], token, 0), at<float>(op, slot, token, 0));
                    }
                }
            }
        }
    }
};

class Products : public ggml::cpu::tensor_traits {
  public:
    bool work_size(int n_threads, const ggml_tensor * op, size_t & size) override {
        size = static_cast<size_t>(n_threads) * room_of(op) * sizeof(float);
        return true;
    }

    bool compute_forward(ggml_compute_params * params, ggml_tensor * op) override {
        const int64_t rows = op->src[0]->ne[1];
        const Part part{.op = op, .first = rows * params->ith / params->nth, .last = rows * (params->ith + 1) / params->nth,
                        .room = static_cast<float *>(params->wdata) + static_cast<size_t>(params->ith) * room_of(op)};
        op->op == GGML_OP_MUL_MAT ? part.mul_mat() : part.mul_mat_id();
        return true;
    }

  private:
    // Threads write into cache lines of their own.
    static size_t room_of(const ggml_tensor * op) { return (static_cast<size_t>(op->src[0]->ne[0]) + 31) / 16 * 16; }
};

class ExtraBufferType : public ggml::cpu::extra_buffer_type {
  public:
    bool supports_op(ggml_backend_dev_t, const ggml_tensor * op) override {
        const ggml_tensor * const weight = op->src[0];
        if (!is_product(op) || !is_here(weight)) {
            // The loader asks with an empty buffer whether weights shall come here. Later on they are here, in the format of the file: what
            // is no product is computed from them as from any other memory of the CPU.
            for (const ggml_tensor * source : op->src) {
                if (is_here(source) && source->buffer->size == 0) {
                    return false;
                }
            }
            return true;
        }
        const ggml_tensor * const in = op->src[1];
        return (loading || weight->buffer->size != 0) && can_be_dequantised(weight->type) && weight->nb[0] == ggml_type_size(weight->type) &&
               (!in->buffer || ggml_backend_buft_is_host(in->buffer->buft)) && in->type == GGML_TYPE_F32 && in->nb[0] == sizeof(float) &&
               op->type == GGML_TYPE_F32;
    }

    ggml::cpu::tensor_traits * get_tensor_traits(const ggml_tensor * op) override {
        static Products * const products = new Products; // used until the process ends
        return is_product(op) && is_here(op->src[0]) ? products : nullptr;
    }
};

const char * buffer_type_name(ggml_backend_buffer_type_t) {
    return "CPU_FLOAT32";
}

ggml_backend_buffer_t allocate(ggml_backend_buffer_type_t type, size_t size) {
    ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
    if (buffer) {
        buffer->buft = type;
        if (loading) {
            loading->add(size);
        }
    }
    return buffer;
}

size_t alignment_of(ggml_backend_buffer_type_t) {
    return ggml_backend_buft_get_alignment(ggml_backend_cpu_buffer_type());
}

} // namespace

ggml_backend_buffer_type_t float32_reference_buffer_type() {
    static ExtraBufferType * const context = new ExtraBufferType;
    static ggml_backend_buffer_type type = {
        {buffer_type_name, allocate, alignment_of, nullptr, nullptr, nullptr},
        ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0),
        context,
    };
    return &type;
}

void install_float32_reference() {
    static const bool once = [] {
        auto & types = ggml_backend_cpu_get_extra_buffer_types();
        types.insert(types.begin(), float32_reference_buffer_type()); // before upstream's own repacking
        return true;
    }();
    (void) once;
}

Float32Loading::Float32Loading() {
    loading = this;
}

Float32Loading::~Float32Loading() {
    loading = nullptr;
}

} // namespace ternion::kernels
