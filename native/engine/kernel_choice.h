// Which of our kernels weights are packed for.
#pragma once

#include "error.h"

#include "kernels/cpu/kernels.h"

#include <string>

namespace ternion {

/// The fastest of this processor for "", null for "upstream". Unknown names are an invalid_arg with the known ones.
Result<const kernels::Kernels *> kernels_by_name(const std::string & name);

} // namespace ternion
