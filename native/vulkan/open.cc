#include "vulkan/loader.h"

#ifdef TERNION_WITH_VULKAN

#include "ggml-vulkan.h"

#include <vulkan/vulkan_core.h>

#include <exception>
#include <utility>
#include <vector>

// Defined by the shim in loader.cc.
extern "C" VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vkGetInstanceProcAddr(VkInstance instance, const char * name);

namespace {

template <typename Function>
Function instance_function(VkInstance instance, const char * name) {
    return reinterpret_cast<Function>(vkGetInstanceProcAddr(instance, name));
}

// Why ggml-vulkan found nothing: it says so only in its log, and not always.
std::string explain_no_device() {
    const auto create = instance_function<PFN_vkCreateInstance>(nullptr, "vkCreateInstance");
    VkApplicationInfo app = {};
    app.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO;
    app.apiVersion = VK_API_VERSION_1_2;
    VkInstanceCreateInfo info = {};
    info.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO;
    info.pApplicationInfo = &app;

    VkInstance instance = VK_NULL_HANDLE;
    if (const VkResult result = create(&info, nullptr, &instance); result == VK_ERROR_INCOMPATIBLE_DRIVER) {
        return "no Vulkan driver is installed (Debian package: mesa-vulkan-drivers)";
    } else if (result != VK_SUCCESS) {
        return "creating a Vulkan instance failed with VkResult " + std::to_string(result);
    }

    const auto enumerate = instance_function<PFN_vkEnumeratePhysicalDevices>(instance, "vkEnumeratePhysicalDevices");
    const auto properties_of =
        instance_function<PFN_vkGetPhysicalDeviceProperties>(instance, "vkGetPhysicalDeviceProperties");
    uint32_t count = 0;
    std::vector<VkPhysicalDevice> devices;
    if (enumerate(instance, &count, nullptr) == VK_SUCCESS && count > 0) {
        devices.resize(count);
        enumerate(instance, &count, devices.data());
        devices.resize(count);
    }

    std::string why = "the Vulkan driver lists no device";
    for (size_t i = 0; i < devices.size(); i++) {
        VkPhysicalDeviceProperties properties = {};
        properties_of(devices[i], &properties);
        why = (i == 0 ? "no usable GPU among: " : why + ", ") + properties.deviceName;
        if (properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU) {
            why += " (software; GGML_VK_VISIBLE_DEVICES=" + std::to_string(i) + " allows it)";
        }
    }
    instance_function<PFN_vkDestroyInstance>(instance, "vkDestroyInstance")(instance, nullptr);
    return why;
}

std::pair<ggml_backend_reg_t, std::string> open_once() {
    if (const auto status = ternion::vulkan::open_loader(); !status.ok) {
        return {nullptr, status.why};
    }
    try {
        const ggml_backend_reg_t reg = ggml_backend_vk_reg();
        if (!reg || ggml_backend_reg_dev_count(reg) == 0) {
            return {nullptr, explain_no_device()};
        }
        return {reg, {}};
    } catch (const std::exception & error) { // vk::SystemError among them
        return {nullptr, std::string("starting Vulkan failed: ") + error.what()};
    }
}

} // namespace

namespace ternion::vulkan {

ggml_backend_reg_t open_backend(std::string & why) {
    static const auto result = open_once();
    why = result.second;
    return result.first;
}

} // namespace ternion::vulkan

#else

namespace ternion::vulkan {

ggml_backend_reg_t open_backend(std::string & why) {
    why = open_loader().why;
    return nullptr;
}

} // namespace ternion::vulkan

#endif
