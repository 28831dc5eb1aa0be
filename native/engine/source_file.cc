#include "source_file.h"

#include "partial_file.h"
#include "snapshot_format.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include <sys/stat.h>
#ifdef _WIN32
#include <io.h>
#define NOMINMAX
#include <windows.h>
#else
#include <unistd.h>
#endif

namespace ternion {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t most_at_once = 1 << 30; // no system reads more than 2 GiB in one call

bool measure(FILE * file, uint64_t & bytes) {
#ifdef _WIN32
    struct _stat64 status;
    const bool known = _fstat64(_fileno(file), &status) == 0;
#else
    struct stat status;
    const bool known = fstat(fileno(file), &status) == 0;
#endif
    bytes = known ? static_cast<uint64_t>(status.st_size) : 0;
    return known;
}

/// How many bytes were read, 0 at the file's end; negative: errno says why.
int64_t read_some(FILE * file, void * out, uint64_t bytes, uint64_t offset) {
    bytes = std::min(bytes, most_at_once);
#ifdef _WIN32
    OVERLAPPED place{};
    place.Offset = static_cast<DWORD>(offset);
    place.OffsetHigh = static_cast<DWORD>(offset >> 32);
    DWORD n = 0;
    if (ReadFile(reinterpret_cast<HANDLE>(_get_osfhandle(_fileno(file))), out, static_cast<DWORD>(bytes), &n, &place) || GetLastError() == ERROR_HANDLE_EOF) {
        return n;
    }
    errno = EIO;
    return -1;
#else
    ssize_t n;
    do {
        n = pread(fileno(file), out, bytes, static_cast<off_t>(offset));
    } while (n < 0 && errno == EINTR);
    return n;
#endif
}

} // namespace

Error at_path(Error error, const std::string & path) {
    error.message = path + ": " + error.message;
    error.details.push_back({"path", path});
    return error;
}

SourceFile::SourceFile(std::string path, WrittenBy by) : path_(std::move(path)) {
    std::error_code unknown;
    const fs::file_status there = fs::status(path_, unknown);
    if (fs::exists(there) && !fs::is_regular_file(there)) {
        errno = fs::is_directory(there) ? EISDIR : EINVAL;
    } else if ((file_ = by == WrittenBy::self ? open_trusted(path_) : std::fopen(path_.c_str(), "rb")) && !measure(file_, bytes_)) {
        std::fclose(std::exchange(file_, nullptr));
    }
    if (!file_) {
        error_ = io_error(path_);
    }
}

SourceFile::~SourceFile() {
    if (file_) {
        std::fclose(file_);
    }
}

Result<bool> SourceFile::read(void * out, uint64_t bytes, uint64_t offset) const {
    for (uint64_t done = 0; done < bytes;) {
        const int64_t n = read_some(file_, static_cast<char *>(out) + done, bytes - done, offset + done);
        if (n < 0) {
            return io_error(path_);
        }
        if (n == 0) {
            return at_path(corrupt("the snapshot was cut off while it was read"), path_);
        }
        done += static_cast<uint64_t>(n);
    }
    return true;
}

} // namespace ternion
