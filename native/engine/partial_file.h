// A file that appears under its name when it is whole.
#pragma once

#include "error.h"

#include <cstdint>
#include <cstdio>
#include <string>

namespace ternion {

/// A file under a temporary name beside its own, removed unless it was committed. Failed calls leave the reason in errno.
class PartialFile {
  public:
    /// Who may read it: this user alone, or whom the umask lets.
    enum class Readers { owner, umask };

    /// Opens the temporary file; get() is null if that fails, or if something other than a file stands under the name.
    explicit PartialFile(std::string path) : PartialFile(path, partial_name(path), Readers::umask) {}
    /// With a temporary name in the same folder: for a file that several may write at once.
    PartialFile(std::string path, std::string partial, Readers readers);
    ~PartialFile();
    PartialFile(const PartialFile &) = delete;
    PartialFile & operator=(const PartialFile &) = delete;

    FILE * get() const { return file_; }
    bool write(const void * data, size_t bytes) const { return bytes == 0 || std::fwrite(data, 1, bytes, file_) == bytes; }

    /// Grows the file to `bytes` without writing.
    bool extend(uint64_t bytes);
    /// On disk, and under its name.
    bool commit();

    /// The temporary name that a file called `path` has until then, unless it was given another.
    static std::string partial_name(const std::string & path) { return path + ".partial"; }

  private:
    const std::string final_, partial_;
    FILE * file_ = nullptr;
    bool opened_ = false;
    bool committed_ = false;
};

/// A name beside `path` that no other process and no other call has: for a file that several may write at once.
std::string own_name(const std::string & path);

/// An `io` error about `path` with errno's text.
Error io_error(const std::string & path);

} // namespace ternion
