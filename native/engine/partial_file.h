// A file that appears under its name when it is whole.
#pragma once

#include "error.h"

#include <cstdint>
#include <cstdio>
#include <string>

namespace ternion {

/// A file under a temporary name beside its own, PATH.RANDOM.partial, removed unless it was committed. Several processes and
/// calls may write the same file at once: the last to commit has it. Failed calls leave the reason in errno.
class PartialFile {
  public:
    /// Who may read it: this user alone, or whom the umask lets.
    enum class Readers { owner, umask };

    /// Opens the temporary file; get() is null if that fails, or if something other than a file stands under the name.
    PartialFile(std::string path, Readers readers);
    ~PartialFile();
    PartialFile(const PartialFile &) = delete;
    PartialFile & operator=(const PartialFile &) = delete;

    FILE * get() const { return file_; }
    bool write(const void * data, size_t bytes) const { return bytes == 0 || std::fwrite(data, 1, bytes, file_) == bytes; }

    /// Grows the file to `bytes` without writing.
    bool extend(uint64_t bytes);
    /// On disk, and under its name.
    bool commit();

    /// The temporary name.
    const std::string & partial() const { return partial_; }

  private:
    const std::string final_, partial_;
    FILE * file_ = nullptr;
    bool opened_ = false;
    bool committed_ = false;
};

/// An `io` error about `path` with errno's text.
Error io_error(const std::string & path);

} // namespace ternion
