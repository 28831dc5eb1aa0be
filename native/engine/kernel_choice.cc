#include "kernel_choice.h"

#include "kernels/cpu/packed_tensor.h"

#include <algorithm>

namespace ternion {
namespace {

using kernels::SourceFormat;

std::vector<std::string> names_of(const kernels::Kernels & set) {
    std::vector<std::string> names{set.name};
    for (const SourceFormat format : {SourceFormat::tq1_0, SourceFormat::tq2_0, SourceFormat::stq1_0, SourceFormat::q8_0, SourceFormat::q6_k}) {
        const auto ways = kernels::ways_of(set, format);
        for (const kernels::Way & way : ways) {
            const std::string name = std::string(set.name) + "/" + way.name;
            if (ways.size() > 1 && std::find(names.begin(), names.end(), name) == names.end()) {
                names.push_back(name);
            }
        }
    }
    return names;
}

} // namespace

bool has_way(const KernelChoice & choice, ggml_type type) {
    SourceFormat format{};
    if (!kernels::format_of(type, format)) {
        return false;
    }
    const auto ways = kernels::ways_of(*choice.kernels, format);
    return ways.size() > 1 && std::any_of(ways.begin(), ways.end(), [&](const kernels::Way & way) { return choice.way == way.name; });
}

std::vector<std::string> kernel_names() {
    std::vector<std::string> all;
    size_t count = 0;
    const kernels::Kernels * const * sets = kernels::available_kernels(count);
    for (size_t i = 0; i < count; ++i) {
        const auto names = names_of(*sets[i]);
        all.insert(all.end(), names.begin(), names.end());
    }
    return all;
}

Result<KernelChoice> kernels_by_name(const std::string & name) {
    size_t count = 0;
    const kernels::Kernels * const * sets = kernels::available_kernels(count);
    if (name.empty()) {
        return KernelChoice{.kernels = sets[0]};
    }
    if (name == "upstream" || name == "float32") {
        return KernelChoice{.float32 = name == "float32"};
    }
    for (size_t i = 0; i < count; ++i) {
        const auto names = names_of(*sets[i]);
        if (std::find(names.begin(), names.end(), name) != names.end()) {
            const size_t slash = name.find('/');
            return KernelChoice{sets[i], slash == std::string::npos ? "" : name.substr(slash + 1)};
        }
    }
    std::string known = "upstream";
    for (const std::string & each : kernel_names()) {
        known += ", " + each;
    }
    return Error{ErrorCode::invalid_arg, "there are no kernels '" + name + "' on this processor, only " + known + ", float32", {{"argument", std::string("kernels")}}};
}

} // namespace ternion
