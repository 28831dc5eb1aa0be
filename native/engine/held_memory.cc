#include "held_memory.h"

#include "read_number.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <sstream>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace ternion {
namespace {

namespace fs = std::filesystem;

/// "1024 KiB", "12 kB", "4096": in bytes.
std::optional<uint64_t> bytes_in(const std::string & text) {
    std::istringstream words(text);
    uint64_t value = 0;
    std::string unit;
    if (!(words >> value)) {
        return std::nullopt;
    }
    words >> unit;
    return unit == "MiB" ? value << 20 : unit == "KiB" || unit == "kB" ? value << 10 : value;
}

/// The lines "key: value" of a file of /proc; empty if it cannot be read.
std::map<std::string, std::string> fields_of(const fs::path & path) {
    std::map<std::string, std::string> fields;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        const size_t colon = line.find(':');
        if (colon != std::string::npos) {
            const size_t value = line.find_first_not_of(" \t", colon + 1);
            fields[line.substr(0, colon)] = value == std::string::npos ? "" : line.substr(value);
        }
    }
    return fields;
}

std::optional<HeldMemory> held_by_process(const std::string & root) {
    const auto fields = fields_of(root + "/proc/self/status");
    const auto field = [&](const char * name) {
        const auto found = fields.find(name);
        return found == fields.end() ? std::nullopt : bytes_in(found->second);
    };
    const auto own = field("RssAnon"), file = field("RssFile"), shared = field("RssShmem");
    if (!own || !file) {
        return std::nullopt;
    }
    return HeldMemory{"cpu", "process", *own + *file + shared.value_or(0), *file};
}

/// By PCI id: what the kernel's DRM drivers say this process has of a GPU (docs.kernel.org, drm-usage-stats). A client may have
/// several descriptors, and is counted once; what it has in the region "cpu" is not the GPU's any more.
std::map<std::string, uint64_t> held_by_descriptors(const std::string & root) {
    std::map<std::string, uint64_t> held;
    std::set<std::pair<std::string, std::string>> seen;
    std::error_code error;
    for (fs::directory_iterator entry(root + "/proc/self/fdinfo", error), end; !error && entry != end; entry.increment(error)) {
        const auto fields = fields_of(entry->path());
        const auto device = fields.find("drm-pdev");
        const auto client = fields.find("drm-client-id");
        if (device == fields.end() || (client != fields.end() && !seen.insert({device->second, client->second}).second)) {
            continue;
        }
        std::map<std::string, uint64_t> regions;
        for (const auto & [key, value] : fields) {
            for (const std::string prefix : {"drm-memory-", "drm-resident-"}) { // the older name and the newer
                if (key.rfind(prefix, 0) == 0) {
                    regions[key.substr(prefix.size())] = bytes_in(value).value_or(0);
                }
            }
        }
        if (regions.empty()) { // a driver that tells engines only
            continue;
        }
        uint64_t & sum = held[device->second];
        for (const auto & [region, bytes] : regions) {
            sum += region == "cpu" ? 0 : bytes;
        }
    }
    return held;
}

std::mutex & changes_mutex() {
    static std::mutex mutex;
    return mutex;
}
uint64_t changes_begun = 0; // under changes_mutex()
uint64_t changes_running = 0;

} // namespace

std::vector<HeldMemory> held_memory(const std::vector<Device> & gpus, const std::string & root) {
    std::vector<HeldMemory> list;
    if (auto process = held_by_process(root)) {
        list.push_back(std::move(*process));
    }
    const auto descriptors = gpus.empty() ? std::map<std::string, uint64_t>() : held_by_descriptors(root);
    for (const Device & gpu : gpus) {
        if (gpu.software || gpu.pci_id.empty()) {
            continue;
        }
        if (const auto own = descriptors.find(gpu.pci_id); own != descriptors.end()) {
            list.push_back({gpu.id, "fdinfo", own->second, 0});
            continue;
        }
        const std::string amdgpu = root + "/sys/bus/pci/devices/" + gpu.pci_id + "/mem_info_";
        const auto vram = read_number(amdgpu + "vram_used"), gtt = read_number(amdgpu + "gtt_used");
        if (vram || gtt) {
            list.push_back({gpu.id, "sysfs", vram.value_or(0) + gtt.value_or(0), 0});
        }
    }
    return list;
}

std::vector<HeldMemory> growth(const std::vector<HeldMemory> & before, const std::vector<HeldMemory> & after) {
    std::vector<HeldMemory> list;
    for (const HeldMemory & now : after) {
        const auto then = std::find_if(before.begin(), before.end(), [&](const HeldMemory & held) { return held.device == now.device; });
        // The first descriptor of a device may be the loader's own: then there was nothing before.
        const bool fresh = then == before.end() ? now.source == "fdinfo" : then->source != now.source && now.source == "fdinfo";
        if (!fresh && (then == before.end() || then->source != now.source)) {
            continue;
        }
        const auto grown = [](uint64_t to, uint64_t from) { return to - std::min(to, from); };
        list.push_back({now.device, now.source, fresh ? now.bytes : grown(now.bytes, then->bytes), fresh ? 0 : grown(now.file_bytes, then->file_bytes)});
    }
    return list;
}

void return_freed_memory() {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

MemoryChange::MemoryChange() {
    const std::lock_guard lock(changes_mutex());
    first_ = changes_running++ == 0;
    number_ = ++changes_begun;
}

MemoryChange::~MemoryChange() {
    const std::lock_guard lock(changes_mutex());
    changes_running--;
}

bool MemoryChange::alone() const {
    const std::lock_guard lock(changes_mutex());
    return first_ && changes_begun == number_;
}

} // namespace ternion
