// What a process is said to hold: on trees of files as Linux shows them, and of this process.
#include "check.h"
#include "scratch.h"

#include "engine/held_memory.h"

#include <cstring>
#include <fstream>
#include <memory>

using namespace ternion;
namespace fs = std::filesystem;

namespace {

constexpr uint64_t mib = uint64_t{1} << 20;

class Tree {
  public:
    void write(const std::string & path, const std::string & text) {
        const fs::path file = scratch_ / path.substr(1);
        fs::create_directories(file.parent_path());
        std::ofstream(file) << text;
    }
    void remove(const std::string & path) { fs::remove(scratch_ / path.substr(1)); }
    std::vector<HeldMemory> held(const std::vector<Device> & gpus) const { return held_memory(gpus, scratch_.path().string()); }

  private:
    Scratch scratch_;
};

Device gpu(const std::string & id, const std::string & pci_id) {
    Device device;
    device.id = id;
    device.kind = DeviceKind::gpu;
    device.pci_id = pci_id;
    return device;
}

const std::string status = "Name:\tnode\nVmRSS:\t  400000 kB\nRssAnon:\t  102400 kB\nRssFile:\t  204800 kB\nRssShmem:\t    1024 kB\n";

void of_the_process() {
    Tree tree;
    CHECK(tree.held({}).empty()); // a system that does not say
    tree.write("/proc/self/status", status);
    const auto held = tree.held({});
    CHECK(held.size() == 1 && held[0].device == "cpu" && held[0].source == "process");
    CHECK(held[0].bytes == 301 * mib && held[0].file_bytes == 200 * mib);
    tree.write("/proc/self/status", "Name:\tnode\nVmRSS:\t  400000 kB\n"); // a kernel before 4.5
    CHECK(tree.held({}).empty());
}

void of_a_gpu() {
    Tree tree;
    tree.write("/proc/self/status", status);
    const std::vector<Device> gpus = {gpu("vulkan0", "0000:01:00.0"), gpu("vulkan1", "0000:02:00.0")};
    CHECK(tree.held(gpus).size() == 1); // nobody tells
    tree.write("/sys/bus/pci/devices/0000:01:00.0/mem_info_vram_used", "1048576\n");
    tree.write("/sys/bus/pci/devices/0000:01:00.0/mem_info_gtt_used", "2097152\n");
    const auto before = tree.held(gpus);
    CHECK(before.size() == 2 && before[1].device == "vulkan0" && before[1].source == "sysfs" && before[1].bytes == 3 * mib);

    // amdgpu's client with two descriptors, of which one region is not the GPU's; a file that is none of DRM's; another card's.
    const std::string client = "pos:\t0\ndrm-driver:\tamdgpu\ndrm-client-id:\t7\ndrm-pdev:\t0000:01:00.0\ndrm-memory-vram:\t1024 KiB\ndrm-memory-gtt: \t20 MiB\ndrm-memory-cpu: \t4 MiB\n";
    tree.write("/proc/self/fdinfo/4", client);
    tree.write("/proc/self/fdinfo/5", client);
    tree.write("/proc/self/fdinfo/6", "pos:\t0\nflags:\t02\n");
    tree.write("/proc/self/fdinfo/8", "drm-driver:\txe\ndrm-client-id:\t7\ndrm-pdev:\t0000:02:00.0\ndrm-total-vram0:\t99 MiB\ndrm-resident-vram0:\t8388608\ndrm-resident-system:\t0\n");
    auto after = tree.held(gpus);
    CHECK(after.size() == 3 && after[1].source == "fdinfo" && after[1].bytes == 21 * mib);
    CHECK(after[2].device == "vulkan1" && after[2].bytes == 8 * mib);

    // The first load of a process opens the device: what it holds then is all its own.
    const auto opened = growth(before, after);
    CHECK(opened.size() == 3 && opened[0].bytes == 0 && opened[1].bytes == 21 * mib && opened[2].bytes == 8 * mib);
    tree.write("/proc/self/fdinfo/9", "drm-driver:\tamdgpu\ndrm-client-id:\t9\ndrm-pdev:\t0000:01:00.0\ndrm-memory-gtt:\t100 MiB\n");
    CHECK(growth(after, tree.held(gpus))[1].bytes == 100 * mib);

    // From one source to a worse one nothing can be told; and nothing is negative.
    for (const char * descriptor : {"4", "5", "8", "9"}) {
        tree.remove(std::string("/proc/self/fdinfo/") + descriptor);
    }
    CHECK(growth(after, tree.held(gpus)).size() == 1);
    tree.write("/sys/bus/pci/devices/0000:01:00.0/mem_info_gtt_used", "0\n");
    CHECK(growth(before, tree.held(gpus))[1].bytes == 0);

    Device played = gpu("vulkan0", "0000:01:00.0");
    played.software = true;
    CHECK(tree.held({played}).size() == 1); // its memory is the process's
}

void nobody_else() {
    const MemoryChange one;
    CHECK(one.alone());
    {
        const MemoryChange two;
        CHECK(!two.alone() && !one.alone());
    }
    CHECK(!one.alone()); // what the other took may be there still
}

void of_this_process() {
#ifdef __linux__
    CHECK(MemoryChange().alone());
    const auto before = held_memory({});
    constexpr size_t size = 64 * mib;
    const std::unique_ptr<char[]> block(new char[size]);
    std::memset(block.get(), 1, size);
    const auto taken = growth(before, held_memory({}));
    CHECK(taken.size() == 1 && taken[0].bytes >= size - mib && taken[0].bytes < size + 8 * mib && taken[0].file_bytes < mib);
#endif
}

} // namespace

int main() {
    of_the_process();
    of_a_gpu();
    nobody_else();
    of_this_process();
    return finish_tests();
}
