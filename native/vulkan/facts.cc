#include "vulkan/facts.h"

#ifdef TERNION_WITH_VULKAN

#include <vulkan/vulkan_core.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>

// Defined by the shim in loader.cc.
extern "C" VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vkGetInstanceProcAddr(VkInstance instance, const char * name);

namespace ternion::vulkan {
namespace {

using Handles = void (*)(ggml_backend_dev_t, void **, void **); // patch 0016

class PhysicalDevice {
  public:
    PhysicalDevice(VkInstance instance, VkPhysicalDevice device) : instance_(instance), device_(device) {
        const auto enumerate = function<PFN_vkEnumerateDeviceExtensionProperties>("vkEnumerateDeviceExtensionProperties");
        uint32_t count = 0;
        if (enumerate(device, nullptr, &count, nullptr) == VK_SUCCESS) {
            extensions_.resize(count);
            enumerate(device, nullptr, &count, extensions_.data());
            extensions_.resize(count);
        }
        function<PFN_vkGetPhysicalDeviceProperties>("vkGetPhysicalDeviceProperties")(device, &basics_);
    }

    const VkPhysicalDeviceProperties & basics() const { return basics_; }

    bool has(const char * extension) const {
        return std::any_of(extensions_.begin(), extensions_.end(), [&](const auto & each) { return std::strcmp(each.extensionName, extension) == 0; });
    }
    bool speaks(uint32_t version) const { return basics_.apiVersion >= version; }

    /// One structure of properties, zero where the device does not know it.
    template <typename Structure>
    Structure properties(VkStructureType type, bool known = true) const {
        Structure structure = {};
        structure.sType = type;
        if (known) {
            VkPhysicalDeviceProperties2 all = {VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, &structure, {}};
            function<PFN_vkGetPhysicalDeviceProperties2>("vkGetPhysicalDeviceProperties2")(device_, &all);
        }
        return structure;
    }

    template <typename Structure>
    Structure features(VkStructureType type, bool known = true) const {
        Structure structure = {};
        structure.sType = type;
        if (known) {
            VkPhysicalDeviceFeatures2 all = {VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, &structure, {}};
            function<PFN_vkGetPhysicalDeviceFeatures2>("vkGetPhysicalDeviceFeatures2")(device_, &all);
        }
        return structure;
    }

    /// `budget`: filled in if the driver tells budgets.
    VkPhysicalDeviceMemoryProperties memory(VkPhysicalDeviceMemoryBudgetPropertiesEXT & budget) const {
        budget = {};
        budget.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT;
        VkPhysicalDeviceMemoryProperties2 all = {VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2, has(VK_EXT_MEMORY_BUDGET_EXTENSION_NAME) ? &budget : nullptr, {}};
        function<PFN_vkGetPhysicalDeviceMemoryProperties2>("vkGetPhysicalDeviceMemoryProperties2")(device_, &all);
        return all.memoryProperties;
    }

  private:
    template <typename Function>
    Function function(const char * name) const {
        return reinterpret_cast<Function>(vkGetInstanceProcAddr(instance_, name));
    }

    VkInstance instance_;
    VkPhysicalDevice device_;
    std::vector<VkExtensionProperties> extensions_;
    VkPhysicalDeviceProperties basics_ = {};
};

void read_memory(const PhysicalDevice & device, Facts & facts) {
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget;
    const VkPhysicalDeviceMemoryProperties memory = device.memory(budget);
    const bool budgets = device.has(VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    for (uint32_t i = 0; i < memory.memoryHeapCount; ++i) {
        const VkMemoryHeap & heap = memory.memoryHeaps[i];
        if (!facts.integrated && !facts.software && !(heap.flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT)) {
            continue; // the host's, as the device sees it
        }
        facts.total_bytes += heap.size;
        // A driver may have given more than its budget by now.
        facts.free_bytes += budgets ? budget.heapBudget[i] - std::min(budget.heapBudget[i], budget.heapUsage[i]) : heap.size;
    }
    const auto allocation = device.properties<VkPhysicalDeviceMaintenance3Properties>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES);
    facts.largest_allocation_bytes = allocation.maxMemoryAllocationSize;
    if (device.speaks(VK_API_VERSION_1_3)) {
        const auto buffer = device.properties<VkPhysicalDeviceMaintenance4Properties>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES);
        facts.largest_allocation_bytes = std::min<uint64_t>(facts.largest_allocation_bytes, buffer.maxBufferSize);
    }
}

void read_capabilities(const PhysicalDevice & device, Facts & facts) {
    const auto add = [&](const char * name, bool there) {
        if (there) {
            facts.capabilities.push_back(name);
        }
    };
    add("fp16", device.features<VkPhysicalDeviceShaderFloat16Int8Features>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES).shaderFloat16);
#ifdef VK_KHR_shader_bfloat16
    add("bf16", device.features<VkPhysicalDeviceShaderBfloat16FeaturesKHR>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR,
                                                                          device.has(VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME)).shaderBFloat16Type);
#endif
    const bool dots = device.speaks(VK_API_VERSION_1_3) || device.has(VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME);
    const auto dot = device.properties<VkPhysicalDeviceShaderIntegerDotProductProperties>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES, dots);
    add("int8-dot", dot.integerDotProduct4x8BitPackedSignedAccelerated);
    add("matrix-cores", device.features<VkPhysicalDeviceCooperativeMatrixFeaturesKHR>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
                                                                                     device.has(VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME)).cooperativeMatrix);
    add("memory-budget", device.has(VK_EXT_MEMORY_BUDGET_EXTENSION_NAME));
}

} // namespace

std::optional<Facts> facts_of(ggml_backend_dev_t handle) {
    const auto handles = reinterpret_cast<Handles>(ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(handle), "ggml_backend_vk_device_handles"));
    if (!handles) {
        return std::nullopt;
    }
    void * instance = nullptr;
    void * physical = nullptr;
    try {
        handles(handle, &instance, &physical);
    } catch (const std::exception &) { // vk::SystemError: the driver is gone
        return std::nullopt;
    }
    const PhysicalDevice device(static_cast<VkInstance>(instance), static_cast<VkPhysicalDevice>(physical));
    Facts facts;
    facts.integrated = device.basics().deviceType == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;
    facts.software = device.basics().deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
    const auto driver = device.properties<VkPhysicalDeviceDriverProperties>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES);
    facts.driver = driver.driverName;
    facts.driver_version = driver.driverInfo;
    if (const auto & basics = device.basics(); basics.vendorID <= 0xffff) { // larger ones are Khronos's, of what is no PCI device
        char id[16];
        std::snprintf(id, sizeof(id), "%04x:%04x", basics.vendorID, basics.deviceID & 0xffff);
        facts.hardware_id = id;
    }
    read_memory(device, facts);
    read_capabilities(device, facts);
    return facts;
}

} // namespace ternion::vulkan

#else

namespace ternion::vulkan {

std::optional<Facts> facts_of(ggml_backend_dev_t) { return std::nullopt; }

} // namespace ternion::vulkan

#endif
