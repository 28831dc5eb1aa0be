#include "packed_memory.h"

#include <algorithm>
#include <new>

#ifndef _WIN32
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace ternion::kernels {
namespace {

constexpr std::align_val_t alignment{64};

} // namespace

PackedMemory::PackedMemory(size_t bytes) : PackedMemory(static_cast<uint8_t *>(::operator new(std::max<size_t>(bytes, 1), alignment)), bytes, false) {
#ifdef MADV_HUGEPAGE
    // Fewer faults while it is filled; an advice that the system may ignore.
    const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)), first = (reinterpret_cast<uintptr_t>(data_) + page - 1) / page * page;
    const uintptr_t end = (reinterpret_cast<uintptr_t>(data_) + bytes) / page * page;
    if (end > first) {
        madvise(reinterpret_cast<void *>(first), end - first, MADV_HUGEPAGE);
    }
#endif
}

#ifdef _WIN32

PackedMemory::~PackedMemory() { ::operator delete(data_, alignment); }
bool PackedMemory::can_map() { return false; }
PackedMemory * PackedMemory::map(int, uint64_t, size_t) { return nullptr; }
bool PackedMemory::replace_mapping() { return false; }

#else

PackedMemory::~PackedMemory() {
    if (file_) {
        munmap(data_, bytes_);
    } else {
        ::operator delete(data_, alignment);
    }
}

bool PackedMemory::can_map() {
    return true;
}

PackedMemory * PackedMemory::map(int file, uint64_t offset, size_t bytes) {
    void * const at = bytes == 0 ? MAP_FAILED : mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file, static_cast<off_t>(offset));
    if (at == MAP_FAILED) {
        return nullptr;
    }
    posix_madvise(at, bytes, POSIX_MADV_WILLNEED);
    return new PackedMemory(static_cast<uint8_t *>(at), bytes, true);
}

bool PackedMemory::replace_mapping() {
    if (!mapped_) {
        return true;
    }
    void * const at = mmap(data_, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    mapped_ = at == MAP_FAILED;
    return !mapped_;
}

#endif

} // namespace ternion::kernels
