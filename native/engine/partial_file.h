// A file that appears under its name only when it is whole.
#pragma once

#include "error.h"

#include <cstdint>
#include <cstdio>
#include <string>

namespace ternion {

/// Written under a temporary name beside the final one; removed unless it was committed. One thread at a time.
class PartialFile {
  public:
    explicit PartialFile(std::string path);
    ~PartialFile();
    PartialFile(const PartialFile &) = delete;
    PartialFile & operator=(const PartialFile &) = delete;

    /// Null if it could not be opened; errno says why, as after every call below that returns false.
    FILE * get() const { return file_; }
    bool write(const void * data, size_t bytes) const { return std::fwrite(data, 1, bytes, file_) == bytes; }

    /// Grows the file to `bytes` without writing.
    bool extend(uint64_t bytes);

    /// On disk, and under its name.
    bool commit();

    /// The name that a file for `path` is written under.
    static std::string temporary_name(const std::string & path) { return path + ".partial"; }

  private:
    std::string final_, partial_;
    FILE * file_;
    bool ever_opened_;
    bool committed_ = false;
};

/// An `io` error about `path` with errno's text.
Error io_error(const std::string & path);

} // namespace ternion
