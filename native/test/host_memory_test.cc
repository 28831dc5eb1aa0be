// What the memory of the host, and of a GPU that shares it, is said to be: on trees of files as Linux shows them, and here.
#include "check.h"
#include "scratch.h"

#include "engine/device_memory.h"
#include "engine/host_memory.h"

#include <fstream>

using namespace ternion;
namespace fs = std::filesystem;

namespace {

constexpr uint64_t gib = uint64_t{1} << 30;

class Tree {
  public:
    Tree() { write("/proc/meminfo", "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\nSwapTotal: 4194304 kB\nSwapFree: 2097152 kB\n"); }

    void write(const std::string & path, const std::string & text) {
        const fs::path file = scratch_ / path.substr(1);
        fs::create_directories(file.parent_path());
        std::ofstream(file) << text;
    }
    std::string root() const { return scratch_.path().string(); }
    HostMemory memory() const { return host_memory(root()); }

  private:
    Scratch scratch_;
};

void no_groups() {
    Tree tree;
    const HostMemory memory = tree.memory();
    CHECK(memory.total_bytes == 16 * gib && memory.available_bytes == 8 * gib && memory.limited_by.empty());
    CHECK(memory.free_swap_bytes == 2 * gib);
}

void without_an_estimate() {
    Tree tree;
    tree.write("/proc/meminfo", "MemTotal: 16777216 kB\nMemFree: 1048576 kB\nBuffers: 1048576 kB\nCached: 2097152 kB\n");
    CHECK(tree.memory().available_bytes == 4 * gib);
}

void nothing_to_read() {
    const Scratch empty;
    const HostMemory memory = host_memory(empty.path().string());
    CHECK(memory.total_bytes == 0 && memory.available_bytes == 0);
}

/// Version 2: a service in a slice; the slice allows less.
void unified() {
    Tree tree;
    tree.write("/proc/self/cgroup", "0::/box.slice/app.service\n");
    tree.write("/proc/self/mountinfo", "30 1 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
    const std::string slice = "/sys/fs/cgroup/box.slice", service = slice + "/app.service";
    tree.write(service + "/memory.max", "max\n");
    tree.write(service + "/memory.high", "max\n");
    tree.write(service + "/memory.current", "1073741824\n");
    tree.write(slice + "/memory.max", "4294967296\n"); // 4 GiB
    tree.write(slice + "/memory.current", "3221225472\n"); // 3 GiB, one of them clean pages
    tree.write(slice + "/memory.stat", "anon 2147483648\ninactive_file 805306368\nactive_file 268435456\n");
    HostMemory memory = tree.memory();
    CHECK(memory.total_bytes == 4 * gib && memory.available_bytes == 2 * gib && memory.limited_by == slice + "/memory.max");
    CHECK(memory.free_swap_bytes == 2 * gib);
    tree.write(slice + "/memory.swap.max", "1073741824\n");
    tree.write(slice + "/memory.swap.current", "268435456\n");
    CHECK(tree.memory().free_swap_bytes == gib - gib / 4);
    tree.write(service + "/memory.swap.max", "0\n");
    CHECK(tree.memory().free_swap_bytes == 0);
    tree.write(service + "/memory.high", "2147483648\n"); // beyond it the kernel slows the process down until nothing moves
    memory = tree.memory();
    CHECK(memory.total_bytes == 2 * gib && memory.available_bytes == gib && memory.limited_by == service + "/memory.high");
    tree.write(slice + "/memory.current", "6442450944\n"); // more than allowed, after the limit was lowered
    CHECK(tree.memory().available_bytes == 0);
}

/// Version 1, seen from a container whose own group is the mount's root.
void with_controllers() {
    Tree tree;
    tree.write("/proc/self/cgroup", "9:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n");
    tree.write("/proc/self/mountinfo",
               "40 30 0:33 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
               "41 30 0:34 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
               "42 30 0:35 / /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw\n");
    const std::string group = "/sys/fs/cgroup/memory";
    tree.write(group + "/memory.limit_in_bytes", "3221225472\n");
    tree.write(group + "/memory.usage_in_bytes", "2147483648\n");
    tree.write(group + "/memory.stat", "cache 9\ntotal_inactive_file 1073741824\n");
    const HostMemory memory = tree.memory();
    CHECK(memory.total_bytes == 3 * gib && memory.available_bytes == 2 * gib && memory.limited_by == group + "/memory.limit_in_bytes");
    CHECK(memory.free_swap_bytes == 0);
    tree.write(group + "/memory.limit_in_bytes", "9223372036854771712\n");
    CHECK(tree.memory().total_bytes == 16 * gib && tree.memory().available_bytes == 8 * gib && tree.memory().limited_by.empty());
}

/// A group that is not below the mount's root: all that can be seen is the mount.
void elsewhere() {
    Tree tree;
    tree.write("/proc/self/cgroup", "0::/../other\n");
    tree.write("/proc/self/mountinfo", "30 1 0:26 /mine /cg rw - cgroup2 none rw\n");
    tree.write("/cg/memory.max", "1073741824\n");
    CHECK(tree.memory().total_bytes == gib && tree.memory().available_bytes == gib);
}

/// A BC-250: 512 MiB carved out, the driver's heaps a third and two thirds of everything. Figures of research on that board.
void shared_by_a_gpu() {
    Tree tree;
    const HostMemory host{15198ULL << 20, 12 * gib, ""};
    const DeviceMemory heaps{5905580032 + 11811160064, 5905580032 + 11811160064, 0};
    DeviceMemory memory = shared_memory(heaps, host, "");
    CHECK(memory.total_bytes == host.total_bytes && memory.free_bytes == host.available_bytes);
    const std::string card = "/sys/bus/pci/devices/0000:01:00.0/mem_info_";
    tree.write(card + "vram_total", "536870912\n");
    tree.write(card + "vram_used", "134217728\n");
    tree.write(card + "gtt_total", "17179869184\n");
    tree.write(card + "gtt_used", "1073741824\n");
    const auto shared = [&] { return shared_memory(heaps, host, "0000:01:00.0", tree.root()); };
    memory = shared();
    CHECK(memory.total_bytes == host.total_bytes + (512ULL << 20));
    CHECK(memory.free_bytes == 12 * gib + (384ULL << 20) && memory.own_free_bytes == 384ULL << 20);
    tree.write("/sys/module/ttm/parameters/pages_limit", "3145728\n"); // 12 GiB, set behind the user's back
    memory = shared();
    CHECK(memory.total_bytes == 12 * gib + (512ULL << 20));
    CHECK(memory.free_bytes == 11 * gib + (384ULL << 20));
    tree.write(card + "gtt_used", "99999999999999\n"); // more than there is
    CHECK(shared().free_bytes == 384ULL << 20);
    CHECK(shared_memory({gib, gib / 2, 0}, host, "0000:01:00.0", tree.root()).free_bytes == 384ULL << 20);
    CHECK(shared_memory({gib, gib / 2, 0}, host, "0000:09:00.0", tree.root()).total_bytes == gib); // another driver's
}

void this_machine() {
    const HostMemory memory = host_memory();
#ifdef __linux__
    CHECK(memory.total_bytes > 64 << 20 && memory.available_bytes > 0 && memory.available_bytes <= memory.total_bytes);
#endif
}

} // namespace

int main() {
    no_groups();
    without_an_estimate();
    nothing_to_read();
    unified();
    with_controllers();
    elsewhere();
    shared_by_a_gpu();
    this_machine();
    return finish_tests();
}
