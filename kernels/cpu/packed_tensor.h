// A packed weight, and what ggml calls for an operation on it.
#pragma once

#include "../formats/pack.h"
#include "matmul.h"
#include "ways.h"

#include "ggml-backend-impl.h"
#include "ggml-cpu.h"
#include "ggml-cpu/traits.h"

#include <cstddef>
#include <cstdint>

namespace ternion::kernels {

/// False: no set of kernels takes the type.
bool format_of(ggml_type type, SourceFormat & format);

/// The format of a weight that can be packed; false: it cannot.
bool source_format(const ggml_tensor * weight, SourceFormat & format);

/// It is computed with the kernels that it was packed for. Any thread of ggml's pool.
class PackedTensor : public ggml::cpu::tensor_traits {
  public:
    PackedTensor(const Kernels & kernels, SourceFormat format, const ggml_tensor * weight, const Way & way);

    bool work_size(int n_threads, const ggml_tensor * op, size_t & size) override;
    bool compute_forward(ggml_compute_params * params, ggml_tensor * op) override;

    static bool takes(const ggml_tensor * op) { return op->op == GGML_OP_MUL_MAT || op->op == GGML_OP_MUL_MAT_ID; }

    /// From the file's bytes, all of them, by several threads. False: there are weights that the layout cannot hold.
    bool pack_all(const uint8_t * source, uint8_t * packed) const;

  private:
    const Kernels & kernels_;
    SourceFormat format_;
    PackedMatrix matrix_;
};

} // namespace ternion::kernels
