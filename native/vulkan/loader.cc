#include "vulkan/loader.h"

#ifdef TERNION_WITH_VULKAN

#include <vulkan/vulkan_core.h>

#include <dlfcn.h>

#include <string>
#include <string_view>

namespace {

#ifdef __APPLE__
constexpr const char * k_library = "libvulkan.1.dylib";
#else
constexpr const char * k_library = "libvulkan.so.1";
#endif

// Set once, before ggml-vulkan can run; null means that there is no loader.
PFN_vkGetInstanceProcAddr g_get_instance_proc_addr = nullptr;

// What a program sees that uses ggml-vulkan without asking open_loader() first: an error instead of a null call.
VKAPI_ATTR VkResult VKAPI_CALL no_instance_version(uint32_t *) { return VK_ERROR_INITIALIZATION_FAILED; }

template <typename Function>
Function exported(const char * name) {
    static void * const library = dlopen(k_library, RTLD_NOW | RTLD_LOCAL);
    return library ? reinterpret_cast<Function>(dlsym(library, name)) : nullptr;
}

ternion::vulkan::Status open_once() {
    dlerror();
    const auto get_proc_addr = exported<PFN_vkGetInstanceProcAddr>("vkGetInstanceProcAddr");
    if (!get_proc_addr) {
        const char * detail = dlerror();
        std::string why = std::string(k_library) + " cannot be loaded";
        if (detail) {
            why += std::string(": ") + detail;
        }
        return {false, why + " (Debian package: libvulkan1)"};
    }

    // Vulkan 1.0 loaders do not have this function; ggml-vulkan calls it unguarded.
    const auto enumerate_version =
        reinterpret_cast<PFN_vkEnumerateInstanceVersion>(get_proc_addr(nullptr, "vkEnumerateInstanceVersion"));
    uint32_t version = VK_API_VERSION_1_0;
    if (enumerate_version && enumerate_version(&version) != VK_SUCCESS) {
        return {false, "the Vulkan loader does not tell its version"};
    }
    if (version < VK_API_VERSION_1_2) {
        return {false, "the Vulkan loader speaks " + std::to_string(VK_API_VERSION_MAJOR(version)) + "." +
                           std::to_string(VK_API_VERSION_MINOR(version)) + ", 1.2 is needed"};
    }
    g_get_instance_proc_addr = get_proc_addr;
    return {true, {}};
}

} // namespace

namespace ternion::vulkan {

bool compiled_in() { return true; }

Status open_loader() {
    static const Status status = open_once();
    return status;
}

} // namespace ternion::vulkan

// The symbols that ggml-vulkan takes from libvulkan; it asks the first one for everything else.

extern "C" {

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vkGetInstanceProcAddr(VkInstance instance, const char * name) {
    if (ternion::vulkan::open_loader().ok) {
        return g_get_instance_proc_addr(instance, name);
    }
    if (std::string_view(name) == "vkEnumerateInstanceVersion") {
        return reinterpret_cast<PFN_vkVoidFunction>(no_instance_version);
    }
    return nullptr;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vkGetDeviceProcAddr(VkDevice device, const char * name) {
    static const auto function = exported<PFN_vkGetDeviceProcAddr>("vkGetDeviceProcAddr");
    return function(device, name);
}

VKAPI_ATTR void VKAPI_CALL vkGetPhysicalDeviceFeatures2(VkPhysicalDevice device, VkPhysicalDeviceFeatures2 * features) {
    static const auto function = exported<PFN_vkGetPhysicalDeviceFeatures2>("vkGetPhysicalDeviceFeatures2");
    function(device, features);
}

VKAPI_ATTR void VKAPI_CALL vkCmdCopyBuffer(VkCommandBuffer commands, VkBuffer from, VkBuffer to, uint32_t count,
                                           const VkBufferCopy * regions) {
    static const auto function = exported<PFN_vkCmdCopyBuffer>("vkCmdCopyBuffer");
    function(commands, from, to, count, regions);
}

} // extern "C"

#else

namespace ternion::vulkan {

bool compiled_in() { return false; }

Status open_loader() { return {false, "this build of ternion has no Vulkan backend"}; }

} // namespace ternion::vulkan

#endif
