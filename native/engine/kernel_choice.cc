#include "kernel_choice.h"

namespace ternion {

Result<const kernels::Kernels *> kernels_by_name(const std::string & name) {
    const kernels::Kernels * none = nullptr;
    size_t count = 0;
    const kernels::Kernels * const * all = kernels::available_kernels(count);
    if (name.empty() || name == "upstream") {
        return name.empty() ? all[0] : none;
    }
    std::string known = "upstream";
    for (size_t i = 0; i < count; ++i) {
        if (name == all[i]->name) {
            return all[i];
        }
        known += std::string(", ") + all[i]->name;
    }
    return Error{ErrorCode::invalid_arg, "there are no kernels '" + name + "' on this processor, only " + known, {{"argument", std::string("kernels")}}};
}

} // namespace ternion
