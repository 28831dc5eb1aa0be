#include "kernel_choice.h"

#include "kernels/cpu/buffer_type.h"

namespace ternion {

Result<const kernels::Kernels *> kernels_by_name(const std::string & name) {
    const kernels::Kernels * none = nullptr;
    if (name.empty() || name == "upstream") {
        return none;
    }
    size_t count = 0;
    const kernels::Kernels * const * all = kernels::available_kernels(count);
    std::string known = "upstream";
    for (size_t i = 0; i < count; ++i) {
        if (name == all[i]->name) {
            return all[i];
        }
        known += std::string(", ") + all[i]->name;
    }
    return Error{ErrorCode::invalid_arg, "there are no kernels '" + name + "' on this processor, only " + known, {{"argument", std::string("kernels")}}};
}

KernelChoice::KernelChoice(const kernels::Kernels * chosen) {
    static std::shared_mutex mutex;
    if (!chosen) {
        shared_ = std::shared_lock(mutex);
        return;
    }
    alone_ = std::unique_lock(mutex);
    kernels::use_kernels(chosen);
}

KernelChoice::~KernelChoice() {
    if (alone_) {
        kernels::use_kernels(nullptr);
    }
}

} // namespace ternion
