#include "backend.h"

#include "device_facts.h"
#include "log.h"
#include "upstream_assertions.h"

#include "kernels/cpu/buffer_type.h"
#include "kernels/cpu/float32_reference.h"
#include "vulkan/loader.h"

#include "ggml-cpu.h"
#include "llama.h"

#include <build-info.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

namespace ternion {
namespace {

// Held by the functions of this file.
std::mutex & registry_mutex() {
    static std::mutex * mutex = new std::mutex;
    return *mutex;
}

// Held, shared, by whoever walks the registry in upstream's code, and alone while it grows.
std::shared_mutex & registry_use() {
    static std::shared_mutex * mutex = new std::shared_mutex;
    return *mutex;
}

/// ggml names its backends "CPU", "Vulkan", "ROCm", "CUDA"; ours are lower case, and HIP is called by its name.
std::string backend_name(ggml_backend_reg_t reg) {
    std::string name = ggml_backend_reg_name(reg);
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return name == "rocm" ? "hip" : name;
}

std::vector<GpuBackend> & gpu_backends() {
    static std::vector<GpuBackend> * list = new std::vector<GpuBackend>{
        {"vulkan", vulkan::compiled_in(), vulkan::open_backend}};
    return *list;
}

// Under registry_mutex().
void register_gpu_backends(std::vector<UnavailableBackend> & unavailable) {
    for (GpuBackend & backend : gpu_backends()) {
        std::string why;
        ggml_backend_reg_t reg = backend.open(why);
        if (!reg) {
            unavailable.push_back({backend.name, why});
        } else if (!backend.registered) {
            const std::unique_lock alone(registry_use());
            ggml_backend_register(reg);
            backend.registered = true;
        }
    }
}

bool is_cpu_memory(ggml_backend_buffer_type_t type, ggml_backend_dev_t device) {
    // The CPU's own extra buffer types (repacked weights) do not call themselves host memory.
    return !device || ggml_backend_buft_is_host(type) || ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
}

struct KnownDevice {
    ggml_backend_dev_t handle;
    std::string backend;
    int index; // within the backend
};

// Under registry_mutex().
std::vector<KnownDevice> known_devices() {
    std::vector<KnownDevice> known;
    std::map<std::string, int> count;
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        ggml_backend_dev_t handle = ggml_backend_dev_get(i);
        const std::string backend = backend_name(ggml_backend_dev_backend_reg(handle));
        known.push_back({handle, backend, count[backend]++});
    }
    return known;
}

// Under registry_mutex().
DeviceList list_locked(bool probe_gpu) {
    DeviceList list;
    if (probe_gpu) {
        register_gpu_backends(list.unavailable);
    }
    for (const auto & [handle, backend, index] : known_devices()) {
        if (probe_gpu || backend == "cpu") {
            list.devices.push_back(describe_device(handle, backend, index));
        }
    }
    std::stable_sort(list.devices.begin(), list.devices.end(), [](const Device & a, const Device & b) {
        return (a.kind == DeviceKind::cpu) > (b.kind == DeviceKind::cpu);
    });
    return list;
}

} // namespace

void backend_init() {
    static const bool once = [] {
        log_install();
        CatchAssertions::install();
#ifndef _WIN32
        // ggml would fork a debugger on an abort; inside somebody's application that only hides the message.
        setenv("GGML_NO_BACKTRACE", "1", 0);
#endif
        llama_backend_init();
        kernels::install_packed_weights();
        kernels::install_float32_reference();
        return true;
    }();
    (void) once;
}

std::shared_lock<std::shared_mutex> registry_in_use() { return std::shared_lock(registry_use()); }

bool is_cpu_memory(ggml_backend_buffer_type_t type) { return is_cpu_memory(type, ggml_backend_buft_get_device(type)); }

void add_gpu_backend(GpuBackend backend) {
    std::lock_guard lock(registry_mutex());
    gpu_backends().push_back(std::move(backend));
}

DeviceList list_devices(bool probe_gpu) {
    std::lock_guard lock(registry_mutex());
    backend_init();
    return list_locked(probe_gpu);
}

Result<std::vector<Device>> find_gpu_devices(const std::vector<std::string> & ids) {
    std::lock_guard lock(registry_mutex());
    backend_init();
    const bool wants_gpu = std::any_of(ids.begin(), ids.end(), [](const std::string & id) { return id != "cpu"; });
    const DeviceList list = list_locked(wants_gpu);
    std::vector<Device> found;
    for (const std::string & id : ids) {
        if (id == "cpu") {
            continue;
        }
        const auto device = std::find_if(list.devices.begin(), list.devices.end(), [&](const Device & d) { return d.id == id; });
        if (device == list.devices.end()) {
            std::string known;
            for (const Device & d : list.devices) {
                known += (known.empty() ? "" : ", ") + d.id;
            }
            std::string why;
            for (const UnavailableBackend & u : list.unavailable) {
                why += "; " + u.backend + ": " + u.reason;
            }
            return Error{ErrorCode::device_not_found, "no device '" + id + "'; there is " + known + why, {{"device", id}}};
        }
        found.push_back(*device);
    }
    return found;
}

Result<bool> limit_device(const std::string & id, std::optional<uint64_t> bytes) {
    const auto found = find_gpu_devices({id});
    if (!found) {
        return found.error();
    }
    if (found->empty() || !vulkan::limit_memory(found->front().handle, bytes.value_or(UINT64_MAX))) {
        return Error{ErrorCode::invalid_arg, "the memory of '" + id + "' cannot be limited from within; of the CPU's a control group limits it", {{"device", id}}};
    }
    return true;
}

std::string device_id_of(ggml_backend_buffer_type_t type) {
    ggml_backend_dev_t handle = ggml_backend_buft_get_device(type);
    if (is_cpu_memory(type, handle)) {
        return "cpu";
    }
    std::lock_guard lock(registry_mutex());
    for (const auto & [known, backend, index] : known_devices()) {
        if (known == handle) {
            return device_id(backend, index);
        }
    }
    return "cpu";
}

int default_threads() {
#ifdef __linux__
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
        // Hyper-threads of one core share its vector units: count a core once, by its list of siblings.
        std::set<std::string> cores;
        int unknown = 0;
        for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
            if (!CPU_ISSET(cpu, &allowed)) {
                continue;
            }
            std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
            std::string siblings;
            if (std::getline(file, siblings)) {
                cores.insert(siblings);
            } else {
                unknown++;
            }
        }
        return std::max(1, static_cast<int>(cores.size()) + unknown);
    }
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

std::vector<std::pair<std::string, std::string>> build_facts() {
    std::lock_guard lock(registry_mutex());
    backend_init();
    std::string backends = "cpu";
    for (const GpuBackend & backend : gpu_backends()) {
        backends += backend.compiled_in ? " " + backend.name : "";
    }
    std::string features;
    for (const std::string & feature : cpu_features()) {
        features += (features.empty() ? "" : " ") + feature;
    }
    return {{"llama", llama_build_info()}, {"compiler", __VERSION__}, {"cpu", features}, {"backends", backends}};
}

} // namespace ternion
