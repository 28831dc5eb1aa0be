// The fastest multiply-add that our kernels of this processor are made of: the roof of what computes with 8-bit numbers.
#pragma once

#include <cstddef>

namespace ternion::kernels {

struct MultiplyAdd {
    const char * instruction; // "vpdpbusd zmm" …
    size_t products;          // of 8-bit numbers, in one step
    /// So many steps of independent instructions that touch no memory.
    void (*run)(size_t steps);
};

/// Null where no such instruction is known here.
const MultiplyAdd * multiply_add();

} // namespace ternion::kernels
