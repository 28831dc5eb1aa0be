#include "kernel_choice.h"

namespace ternion {

Result<KernelChoice> kernels_by_name(const std::string & name) {
    size_t count = 0;
    const kernels::Kernels * const * all = kernels::available_kernels(count);
    if (name.empty()) {
        return KernelChoice{.packed = all[0]};
    }
    if (name == "upstream" || name == "float32") {
        return KernelChoice{.float32 = name == "float32"};
    }
    std::string known = "upstream";
    for (size_t i = 0; i < count; ++i) {
        if (name == all[i]->name) {
            return KernelChoice{.packed = all[i]};
        }
        known += std::string(", ") + all[i]->name;
    }
    return Error{ErrorCode::invalid_arg, "there are no kernels '" + name + "' on this processor, only " + known + ", float32", {{"argument", std::string("kernels")}}};
}

} // namespace ternion
