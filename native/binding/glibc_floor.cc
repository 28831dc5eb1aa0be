// A prebuild carries the C++ runtime of the machine that built it, which takes two functions from newer C libraries than
// anything else here does. These stand in for them, so that the addon loads where glibc is 2.34 (RHEL 9, Ubuntu 22.04).
// They are called on any thread and keep no state.
#if defined(TERNION_PREBUILD_RUNTIME)

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <dlfcn.h>
#include <link.h>
#include <sys/random.h>

namespace {

struct Search {
    uintptr_t address;
    dl_find_object * result;
};

// Fills in what the unwinder reads: where the object is mapped and where its unwind table begins.
int look_into(dl_phdr_info * info, size_t, void * data) {
    auto & search = *static_cast<Search *>(data);
    uintptr_t begin = UINTPTR_MAX;
    uintptr_t end = 0;
    bool inside = false;
    const ElfW(Phdr) * table = nullptr;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const ElfW(Phdr) & header = info->dlpi_phdr[i];
        const uintptr_t from = info->dlpi_addr + header.p_vaddr;
        if (header.p_type == PT_GNU_EH_FRAME) {
            table = &header;
        }
        if (header.p_type != PT_LOAD) {
            continue;
        }
        begin = from < begin ? from : begin;
        end = from + header.p_memsz > end ? from + header.p_memsz : end;
        inside = inside || (search.address >= from && search.address < from + header.p_memsz);
    }
    if (!inside || table == nullptr) {
        return 0;
    }
    *search.result = {};
    search.result->dlfo_map_start = reinterpret_cast<void *>(begin);
    search.result->dlfo_map_end = reinterpret_cast<void *>(end);
    search.result->dlfo_eh_frame = reinterpret_cast<void *>(info->dlpi_addr + table->p_vaddr);
    return 1;
}

} // namespace

extern "C" {

// Since glibc 2.35; libgcc's unwinder asks it where the code at an address came from. 0 if it was found.
int _dl_find_object(void * address, dl_find_object * result) noexcept {
    Search search{reinterpret_cast<uintptr_t>(address), result};
    return dl_iterate_phdr(look_into, &search) == 1 ? 0 : -1;
}

// Since glibc 2.36; std::random_device draws from it.
uint32_t arc4random() noexcept {
    uint32_t value = 0;
    while (getrandom(&value, sizeof(value), 0) != sizeof(value)) {
        if (errno != EINTR) {
            abort(); // no kernel that Node runs on lacks it, and a number that is not random must not be returned
        }
    }
    return value;
}
}

#endif
