// A snapshot's file, read at given places, by several threads if need be.
#pragma once

#include "error.h"
#include "private_files.h"

#include <cstdint>
#include <cstdio>
#include <string>

namespace ternion {

/// `error` about `path`: in its message and its details.
Error at_path(Error error, const std::string & path);

class SourceFile {
  public:
    /// Regular files only: opening a pipe would wait for its other end.
    explicit SourceFile(std::string path, WrittenBy by = WrittenBy::anybody);
    ~SourceFile();
    SourceFile(const SourceFile &) = delete;
    SourceFile & operator=(const SourceFile &) = delete;

    const std::string & path() const { return path_; }
    /// Of the file that is open: another may stand under the name by now.
    uint64_t bytes() const { return bytes_; }

    /// Null, or why the file could not be opened.
    const Error * failed() const { return file_ ? nullptr : &error_; }

    /// Reads `bytes` bytes at `offset`: all of them, or an error. Any thread.
    Result<bool> read(void * out, uint64_t bytes, uint64_t offset) const;

  private:
    const std::string path_;
    FILE * file_ = nullptr;
    uint64_t bytes_ = 0;
    Error error_;
};

} // namespace ternion
