// The process's compute devices. All functions here may be called from any thread; one mutex serialises them, since
// ggml's registry and the first initialisation of a device are not thread-safe.
#pragma once

#include "error.h"

#include "vulkan/limit.h"

#include "ggml-backend.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

namespace ternion {

enum class DeviceKind { cpu, gpu, igpu };

struct Device {
    std::string id; // "cpu", "vulkan0", "hip1" …: backend and index within it
    std::string name;
    std::string description;
    std::string backend;
    DeviceKind kind = DeviceKind::cpu;
    std::string pci_id;      // "0000:01:00.0"; empty where there is none
    std::string hardware_id; // PCI vendor and device, "1002:13fe"
    std::string driver, driver_version;
    std::string architecture; // "x86_64", "gfx1013" …; empty where nobody says
    bool uma = false;         // a GPU whose memory is the host's
    bool software = false;    // a GPU that is played by the CPU
    /// Of its own memory, or of the host's: what a control group and the driver leave this process. A pool that a GPU shares with
    /// the CPU shows in both, and is one.
    uint64_t total_bytes = 0, free_bytes = 0;
    uint64_t own_free_bytes = 0; // of a GPU with `uma`: what is free of memory that the firmware carved out for it
    uint64_t largest_allocation_bytes = 0;
    std::optional<vulkan::Limited> limited; // what limit_device() set; total and free bytes keep to it
    std::vector<std::string> capabilities; // that change speed: of a CPU "avx512-vnni" …, of a GPU as in vulkan/facts.h
    ggml_backend_dev_t handle = nullptr;
};

/// A backend with no device here, and why.
struct UnavailableBackend {
    std::string backend;
    std::string reason;
};

struct DeviceList {
    std::vector<Device> devices; // the CPU first
    std::vector<UnavailableBackend> unavailable;
};

/// A GPU backend that is linked but not yet in ggml's registry. `open` finds it, or returns null and says why there is
/// none: no loader, no driver, no device. Called again at each probe. Vulkan is known from the start.
struct GpuBackend {
    std::string name;
    bool compiled_in = true;
    std::function<ggml_backend_reg_t(std::string & why)> open;
    bool registered = false;
};

void add_gpu_backend(GpuBackend backend);

/// To be held while upstream walks ggml's registry, as loading a model and making a context do: the registry may not
/// grow meanwhile. Do not call the functions below while holding it.
std::shared_lock<std::shared_mutex> registry_in_use();

/// Once per process; called by everything below. Creates no GPU instance.
void backend_init();

/// `probe_gpu` false lists the CPU alone and never touches a GPU loader.
DeviceList list_devices(bool probe_gpu);

/// The GPU devices of `ids`, in that order; "cpu" contributes none. GPU loaders are opened only if an id asks for one.
Result<std::vector<Device>> find_gpu_devices(const std::vector<std::string> & ids);

/// Holds this process to so many bytes of a device's memory, all models together; nothing lifts that. Buffers that would go beyond are
/// out of memory. invalid_arg for the CPU and for backends that do not count, device_not_found.
Result<bool> limit_device(const std::string & id, std::optional<uint64_t> bytes);

/// Whether memory of this buffer type is the CPU's: host memory, or one of the CPU's layouts of its own.
bool is_cpu_memory(ggml_backend_buffer_type_t type);

/// The id of the device that memory of this buffer type belongs to: host memory counts as "cpu".
std::string device_id_of(ggml_backend_buffer_type_t type);

/// CPU threads worth using here: physical cores that this process may run on.
int default_threads();

/// Facts about the build: "llama", "compiler", "cpu" (features in use), "backends" compiled in. Space-separated lists.
std::vector<std::pair<std::string, std::string>> build_facts();

} // namespace ternion
