// The memory that packed weights lie in: of the process, or a part of a file.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ternion::kernels {

/// Owns a piece of memory, 64-byte aligned. Any thread, one at a time.
class PackedMemory {
  public:
    /// @throws std::bad_alloc
    explicit PackedMemory(size_t bytes);
    ~PackedMemory();
    PackedMemory(const PackedMemory &) = delete;
    PackedMemory & operator=(const PackedMemory &) = delete;

    /// Whether this system maps files.
    static bool can_map();
    /// Bytes [offset, offset + bytes) of an open file, to be read only; offset is a multiple of the page size. All processes that
    /// map the same part share it. Null if it cannot be mapped. The file may be closed.
    static PackedMemory * map(int file, uint64_t offset, size_t bytes);

    uint8_t * data() const { return data_; }
    size_t bytes() const { return bytes_; }
    bool mapped() const { return mapped_; }

    /// Puts ordinary memory in the place of a mapping, at the same address and with undefined contents. False: there is none.
    bool replace_mapping();

  private:
    PackedMemory(uint8_t * data, size_t bytes, bool mapped) : data_(data), bytes_(bytes), file_(mapped), mapped_(mapped) {}

    uint8_t * data_;
    size_t bytes_;
    bool file_;   // the address range came from the system, not from the heap
    bool mapped_; // it shows the file still
};

} // namespace ternion::kernels
