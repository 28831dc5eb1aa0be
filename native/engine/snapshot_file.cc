// Snapshots as files. The state is never held twice: it goes from its bytes to the file, and from the file to its bytes.
#include "checksum.h"
#include "partial_file.h"
#include "snapshot.h"
#include "snapshot_format.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <new>
#include <utility>

#include <sys/stat.h>

namespace ternion {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t chunk_bytes = 1 << 20; // summed up while it still is in the processor's cache

Error at_path(Error error, const std::string & path) {
    error.message = path + ": " + error.message;
    error.details.push_back({"path", path});
    return error;
}

class SourceFile {
  public:
    explicit SourceFile(const std::string & path) : path_(path) {
        std::error_code failed;
        const fs::file_status there = fs::status(path, failed);
        if (fs::exists(there) && !fs::is_regular_file(there)) { // opening a pipe would wait for its other end
            errno = fs::is_directory(there) ? EISDIR : EINVAL;
        } else if ((file_ = std::fopen(path.c_str(), "rb"))) {
            std::setvbuf(file_, nullptr, _IONBF, 0);
            measure();
        }
    }
    ~SourceFile() {
        if (file_) {
            std::fclose(file_);
        }
    }
    SourceFile(const SourceFile &) = delete;
    SourceFile & operator=(const SourceFile &) = delete;

    bool ok() const { return file_ != nullptr; }
    uint64_t bytes() const { return bytes_; }

    /// False: failed() says why.
    bool read(void * out, uint64_t bytes) { return std::fread(out, 1, bytes, file_) == bytes; }
    Error failed() const {
        return file_ && !std::ferror(file_) ? at_path(corrupt("the snapshot was cut off while it was read"), path_) : io_error(path_);
    }

  private:
    // Of the file that is open: another may stand under the name by now.
    void measure() {
#ifdef _WIN32
        struct _stat64 status;
        const bool known = _fstat64(_fileno(file_), &status) == 0;
#else
        struct stat status;
        const bool known = fstat(fileno(file_), &status) == 0;
#endif
        if (known) {
            bytes_ = static_cast<uint64_t>(status.st_size);
        } else {
            std::fclose(std::exchange(file_, nullptr));
        }
    }

    const std::string & path_;
    FILE * file_ = nullptr;
    uint64_t bytes_ = 0;
};

Result<ReadHead> read_head(SourceFile & file, const std::string & path) {
    if (!file.ok()) {
        return io_error(path);
    }
    std::array<uint8_t, fixed_head_bytes> fixed;
    const uint64_t fixed_size = std::min<uint64_t>(fixed.size(), file.bytes());
    if (!file.read(fixed.data(), fixed_size)) {
        return file.failed();
    }
    const auto bytes = announced_head_bytes(fixed.data(), fixed_size, file.bytes());
    if (!bytes) {
        return at_path(bytes.error(), path);
    }
    const Bytes head = Bytes::of(*bytes);
    std::copy(fixed.begin(), fixed.end(), head.data.get());
    if (!file.read(head.data.get() + fixed.size(), head.size - fixed.size())) {
        return file.failed();
    }
    auto read = decode_head(head.data.get(), head.size, file.bytes());
    return read ? std::move(read) : at_path(std::move(read.error()), path);
}

} // namespace

Result<bool> save_snapshot(const Snapshot & snapshot, const std::string & path) {
    const Bytes & state = snapshot.state;
    const uint64_t bytes = head_bytes(snapshot);
    try {
        const Bytes head = Bytes::of(bytes);
        encode_head(snapshot, state.size, checksum64(state.data.get(), state.size), head.data.get());
        PartialFile file(path, PartialFile::partial_name(own_name(path)));
        if (!file.get() || !file.write(head.data.get(), head.size) || (state.size > 0 && !file.write(state.data.get(), state.size)) || !file.commit()) {
            return io_error(path);
        }
        return true;
    } catch (const std::bad_alloc &) {
        return at_path(no_memory_for_snapshot(bytes), path);
    }
}

Result<Snapshot> load_snapshot(const std::string & path) {
    SourceFile file(path);
    try {
        auto read = read_head(file, path);
        if (!read) {
            return std::move(read.error());
        }
        Snapshot snapshot{std::move(read->head), Bytes::of(read->state_bytes)};
        Checksum64 sum;
        for (uint64_t at = 0; at < read->state_bytes;) {
            const uint64_t n = std::min(chunk_bytes, read->state_bytes - at);
            if (!file.read(snapshot.state.data.get() + at, n)) {
                return file.failed();
            }
            sum.add(snapshot.state.data.get() + at, n);
            at += n;
        }
        if (sum.value() != read->state_checksum) {
            return at_path(corrupt("the snapshot's state is not what was written"), path);
        }
        return snapshot;
    } catch (const std::bad_alloc &) {
        return at_path(no_memory_for_snapshot(file.bytes()), path);
    }
}

Result<SnapshotHead> load_snapshot_head(const std::string & path) {
    SourceFile file(path);
    try {
        auto read = read_head(file, path);
        if (!read) {
            return std::move(read.error());
        }
        return std::move(read->head);
    } catch (const std::bad_alloc &) {
        return at_path(no_memory_for_snapshot(file.bytes()), path);
    }
}

} // namespace ternion
