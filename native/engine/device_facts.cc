#include "device_facts.h"

#include "device_memory.h"
#include "host_memory.h"

#include "vulkan/facts.h"
#include "vulkan/limit.h"

#include <algorithm>
#include <cctype>
#include <regex>

namespace ternion {
namespace {

#if defined(__x86_64__) || defined(_M_X64)
constexpr const char * cpu_architecture = "x86_64";
#elif defined(__aarch64__) || defined(_M_ARM64)
constexpr const char * cpu_architecture = "aarch64";
#else
constexpr const char * cpu_architecture = "";
#endif

/// ggml's spelling as a capability: "AVX512_VNNI" is "avx512-vnni".
std::string capability(std::string feature) {
    std::transform(feature.begin(), feature.end(), feature.begin(), [](unsigned char c) { return c == '_' ? '-' : static_cast<char>(std::tolower(c)); });
    return feature;
}

void describe_cpu(Device & device) {
    device.id = "cpu";
    device.architecture = cpu_architecture;
    if (const HostMemory host = host_memory(); host.total_bytes > 0) {
        device.total_bytes = host.total_bytes;
        device.free_bytes = host.available_bytes;
    }
    device.largest_allocation_bytes = device.total_bytes;
    for (const std::string & feature : cpu_features()) {
        if (feature != "LLAMAFILE" && feature != "REPACK" && feature != "OPENMP") { // code that was built in, no instructions
            device.capabilities.push_back(capability(feature));
        }
    }
}

/// Mesa's radv writes the name of the chip behind the card's: "AMD Radeon Graphics (RADV GFX1013)".
std::string architecture_in(const std::string & description) {
    std::smatch chip;
    return std::regex_search(description, chip, std::regex("\\(RADV (GFX[0-9A-F]+)")) ? capability(chip[1]) : "";
}

void describe_vulkan(Device & device) {
    const auto facts = vulkan::facts_of(device.handle);
    if (!facts) {
        return;
    }
    device.hardware_id = facts->hardware_id;
    device.driver = facts->driver;
    device.driver_version = facts->driver_version;
    device.architecture = architecture_in(device.description);
    device.uma = facts->integrated || facts->software;
    device.software = facts->software;
    device.total_bytes = facts->total_bytes;
    device.free_bytes = facts->free_bytes;
    device.largest_allocation_bytes = facts->largest_allocation_bytes;
    device.capabilities = facts->capabilities;
}

} // namespace

std::vector<std::string> cpu_features() {
    std::vector<std::string> features;
    if (ggml_backend_reg_t cpu = ggml_backend_reg_by_name("CPU")) {
        const auto get = reinterpret_cast<ggml_backend_get_features_t>(ggml_backend_reg_get_proc_address(cpu, "ggml_backend_get_features"));
        for (const ggml_backend_feature * f = get ? get(cpu) : nullptr; f && f->name; ++f) {
            if (std::string(f->value) != "0") {
                features.emplace_back(f->name);
            }
        }
    }
    return features;
}

Device describe_device(ggml_backend_dev_t handle, const std::string & backend, int index) {
    ggml_backend_dev_props props;
    ggml_backend_dev_get_props(handle, &props);
    Device device;
    device.handle = handle;
    device.backend = backend;
    device.name = ggml_backend_dev_name(handle);
    device.description = ggml_backend_dev_description(handle);
    device.total_bytes = props.memory_total;
    device.free_bytes = std::min(props.memory_free, props.memory_total); // an unsigned difference of the driver's may be huge
    device.pci_id = props.device_id ? props.device_id : "";
    device.kind = props.type == GGML_BACKEND_DEVICE_TYPE_GPU    ? DeviceKind::gpu
                  : props.type == GGML_BACKEND_DEVICE_TYPE_IGPU ? DeviceKind::igpu
                                                                : DeviceKind::cpu;
    if (device.kind == DeviceKind::cpu) {
        describe_cpu(device);
        return device;
    }
    device.id = device_id(backend, index);
    device.uma = device.kind == DeviceKind::igpu;
    device.largest_allocation_bytes = device.total_bytes;
    describe_vulkan(device);
    if (device.uma) {
        const DeviceMemory memory = shared_memory({device.total_bytes, device.free_bytes, 0}, host_memory(), device.pci_id);
        device.total_bytes = memory.total_bytes;
        device.free_bytes = memory.free_bytes;
        device.own_free_bytes = memory.own_free_bytes;
        device.largest_allocation_bytes = std::min(device.largest_allocation_bytes, device.total_bytes);
    }
    device.limited = vulkan::limited_memory(handle);
    if (const auto & limited = device.limited) {
        device.total_bytes = std::min(device.total_bytes, limited->limit_bytes);
        device.free_bytes = std::min(device.free_bytes, limited->limit_bytes - std::min(limited->limit_bytes, limited->allocated_bytes));
    }
    return device;
}

} // namespace ternion
