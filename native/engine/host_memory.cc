#include "host_memory.h"

#include "read_number.h"

#include <algorithm>
#include <fstream>
#include <initializer_list>
#include <optional>
#include <sstream>
#include <vector>

namespace ternion {
namespace {

/// The names of one version's files. proc(5), cgroups(7), and the kernel's cgroup-v1/memory.rst and cgroup-v2.rst.
struct Version {
    bool unified; // one hierarchy for all controllers, without their names
    const char * filesystem;
    std::vector<const char *> limits; // bytes, or "max"
    const char * usage;
    std::vector<const char *> reclaimable; // of memory.stat: file pages that the kernel takes back before it kills
    const char * swap_limit;               // null: memory and swap have one limit together, and any limit is taken for one of both
    const char * swap_usage;
};

const Version version_1 = {false, "cgroup", {"memory.limit_in_bytes"}, "memory.usage_in_bytes", {"total_inactive_file", "total_active_file"}, nullptr, nullptr};
const Version version_2 = {true, "cgroup2", {"memory.max", "memory.high"}, "memory.current", {"inactive_file", "active_file"}, "memory.swap.max", "memory.swap.current"};

/// The sum of those lines "KEY NUMBER …" of a file whose key is among `keys`; nothing where there is none.
std::optional<uint64_t> sum_of(const std::string & path, const std::vector<const char *> & keys) {
    std::ifstream file(path);
    std::optional<uint64_t> sum;
    std::string line;
    while (std::getline(file, line)) {
        std::istringstream words(line);
        std::string key;
        uint64_t value;
        if (words >> key >> value && std::find(keys.begin(), keys.end(), key) != keys.end()) {
            sum = sum.value_or(0) + value;
        }
    }
    return sum;
}

bool has_word(const std::string & list, const std::string & word) {
    return ("," + list + ",").find("," + word + ",") != std::string::npos;
}

/// This process's group in the hierarchy that accounts for memory, as /proc/self/cgroup has it.
std::optional<std::string> group_path(const std::string & root, const Version & version) {
    std::ifstream file(root + "/proc/self/cgroup");
    std::string line;
    while (std::getline(file, line)) { // ID:CONTROLLERS:PATH
        const size_t a = line.find(':'), b = a == std::string::npos ? a : line.find(':', a + 1);
        if (b == std::string::npos) {
            continue;
        }
        const std::string controllers = line.substr(a + 1, b - a - 1);
        if (version.unified ? line.substr(0, a) == "0" && controllers.empty() : has_word(controllers, "memory")) {
            return line.substr(b + 1);
        }
    }
    return std::nullopt;
}

struct Mount {
    std::string root, point; // the group that is mounted, and where
};

std::optional<Mount> find_mount(const std::string & root, const Version & version) {
    std::ifstream file(root + "/proc/self/mountinfo");
    std::string line;
    while (std::getline(file, line)) { // ID PARENT DEVICE ROOT POINT OPTIONS … - FILESYSTEM SOURCE SUPEROPTIONS
        std::istringstream words(line);
        std::string skipped, filesystem, options;
        Mount mount;
        words >> skipped >> skipped >> skipped >> mount.root >> mount.point;
        while (words >> skipped && skipped != "-") {
        }
        if (words >> filesystem >> skipped >> options && filesystem == version.filesystem && (version.unified || has_word(options, "memory"))) {
            return mount;
        }
    }
    return std::nullopt;
}

/// Narrows `memory` by the group and all above it, as far as they can be seen from here.
void apply_groups(const std::string & root, const Version & version, HostMemory & memory) {
    const auto path = group_path(root, version);
    const auto mount = find_mount(root, version);
    if (!path || !mount) {
        return;
    }
    // A container may see its own group as the mount's root.
    const std::string above = mount->root == "/" ? "" : mount->root;
    const bool inside = path->compare(0, above.size(), above) == 0;
    std::string group = inside ? path->substr(above.size()) : "";
    for (;;) {
        while (!group.empty() && group.back() == '/') {
            group.pop_back();
        }
        const std::string folder = mount->point + group;
        const uint64_t usage = read_number(root + folder + "/" + version.usage).value_or(0);
        const uint64_t used = usage - std::min(usage, sum_of(root + folder + "/memory.stat", version.reclaimable).value_or(0));
        for (const char * name : version.limits) {
            const auto limit = read_number(root + folder + "/" + name); // nothing where it is "max"
            if (limit && *limit < memory.total_bytes) {                 // version 1 has huge ones instead
                memory.total_bytes = *limit;
                memory.limited_by = folder + "/" + name;
            }
            if (limit) {
                memory.available_bytes = std::min(memory.available_bytes, *limit - std::min(*limit, used));
            }
        }
        if (!version.swap_limit && !memory.limited_by.empty()) {
            memory.free_swap_bytes = 0;
        }
        if (const auto limit = version.swap_limit ? read_number(root + folder + "/" + version.swap_limit) : std::nullopt) {
            const uint64_t swapped = read_number(root + folder + "/" + version.swap_usage).value_or(0);
            memory.free_swap_bytes = std::min(memory.free_swap_bytes, *limit - std::min(*limit, swapped));
        }
        if (group.empty()) {
            return;
        }
        group.resize(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
    }
}

} // namespace

HostMemory host_memory(const std::string & root) {
    HostMemory memory;
    const std::string meminfo = root + "/proc/meminfo"; // "KEY: NUMBER kB"
    memory.total_bytes = sum_of(meminfo, {"MemTotal:"}).value_or(0) * 1024;
    const auto available = sum_of(meminfo, {"MemAvailable:"}); // not before Linux 3.14, nor of those who play it
    memory.available_bytes = (available ? *available : sum_of(meminfo, {"MemFree:", "Buffers:", "Cached:"}).value_or(0)) * 1024;
    memory.free_swap_bytes = sum_of(meminfo, {"SwapFree:"}).value_or(0) * 1024;
    if (memory.total_bytes > 0) {
        for (const Version * version : {&version_1, &version_2}) {
            apply_groups(root, *version, memory);
        }
    }
    return memory;
}

} // namespace ternion
