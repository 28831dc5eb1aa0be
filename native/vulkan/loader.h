// Vulkan without linking libvulkan: the loader is opened when a GPU is asked for, so the addon loads on machines that
// have none, and CPU runs never touch a driver.
#pragma once

#include "ggml-backend.h"

#include <string>

namespace ternion::vulkan {

struct Status {
    bool ok = false;
    std::string why; // empty when ok
};

/// Whether ggml's Vulkan backend is part of this build.
bool compiled_in();

/// Opens libvulkan.so.1 and checks that it speaks Vulkan 1.2. Tried once per process; any thread.
Status open_loader();

/// Starts the backend, once per process; any thread. Whoever registers it with ggml lists its devices beside the CPU.
/// Returns null and says why when there is no Vulkan here: not built in, no loader, no usable device.
ggml_backend_reg_t open_backend(std::string & why);

} // namespace ternion::vulkan
