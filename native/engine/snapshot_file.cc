// Snapshots as files. The state is never held twice: it goes from its bytes to the file, and from the file to its bytes.
#include "checksum.h"
#include "partial_file.h"
#include "snapshot.h"
#include "snapshot_format.h"
#include "source_file.h"

#include <algorithm>
#include <array>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

namespace ternion {
namespace {

constexpr uint64_t chunk_bytes = 1 << 20; // summed up while it still is in the processor's cache
constexpr uint64_t shared_bytes = 8 << 20; // a second thread is worth its start from here on

Result<ReadHead> read_head(const SourceFile & file) {
    if (file.failed()) {
        return *file.failed();
    }
    std::array<uint8_t, fixed_head_bytes> fixed;
    const uint64_t fixed_size = std::min<uint64_t>(fixed.size(), file.bytes());
    if (auto done = file.read(fixed.data(), fixed_size, 0); !done) {
        return std::move(done.error());
    }
    const auto bytes = announced_head_bytes(fixed.data(), fixed_size, file.bytes());
    if (!bytes) {
        return at_path(bytes.error(), file.path());
    }
    const Bytes head = Bytes::of(*bytes);
    if (auto done = file.read(head.data.get(), head.size, 0); !done) {
        return std::move(done.error());
    }
    auto read = decode_head(head.data.get(), head.size, file.bytes());
    return read ? std::move(read) : at_path(std::move(read.error()), file.path());
}

/// Reads the file's last `state.size` bytes; their checksum. Another thread reads their second half meanwhile: most of the time goes
/// into handing out memory that nobody has touched yet, and a disk with a queue has both halves sooner too.
Result<uint64_t> read_state(const SourceFile & file, const Bytes & state) {
    const uint64_t begin = file.bytes() - state.size;
    const uint64_t middle = state.size < shared_bytes ? state.size : state.size / 2;
    Result<bool> second = true;
    const auto read_second = [&] { second = file.read(state.data.get() + middle, state.size - middle, begin + middle); };
    std::jthread helper;
    if (middle < state.size) {
        try {
            helper = std::jthread(read_second);
        } catch (const std::system_error &) { // no thread to be had
            read_second();
        }
    }
    Checksum64 sum;
    for (uint64_t at = 0; at < middle;) {
        const uint64_t n = std::min(chunk_bytes, middle - at);
        if (auto done = file.read(state.data.get() + at, n, begin + at); !done) {
            return std::move(done.error()); // once the helper is done
        }
        sum.add(state.data.get() + at, n);
        at += n;
    }
    if (helper.joinable()) {
        helper.join();
    }
    if (!second) {
        return std::move(second.error());
    }
    sum.add(state.data.get() + middle, state.size - middle);
    return sum.value();
}

} // namespace

Result<bool> save_snapshot(const Snapshot & snapshot, const std::string & path) {
    const Bytes & state = snapshot.state;
    const uint64_t bytes = head_bytes(snapshot);
    try {
        const Bytes head = Bytes::of(bytes);
        encode_head(snapshot, state.size, checksum64(state.data.get(), state.size), head.data.get());
        PartialFile file(path, PartialFile::Readers::owner);
        if (!file.get() || !file.write(head.data.get(), head.size) || (state.size > 0 && !file.write(state.data.get(), state.size)) || !file.commit()) {
            return io_error(path);
        }
        return true;
    } catch (const std::bad_alloc &) {
        return at_path(no_memory_for_snapshot(bytes), path);
    }
}

Result<Snapshot> load_snapshot(const std::string & path, WrittenBy by) {
    const SourceFile file(path, by);
    try {
        auto read = read_head(file);
        if (!read) {
            return std::move(read.error());
        }
        Snapshot snapshot{std::move(read->head), Bytes::of(read->state_bytes)};
        const auto sum = read_state(file, snapshot.state);
        if (!sum) {
            return sum.error();
        }
        if (*sum != read->state_checksum) {
            return at_path(corrupt("the snapshot's state is not what was written"), path);
        }
        return snapshot;
    } catch (const std::bad_alloc &) {
        return at_path(no_memory_for_snapshot(file.bytes()), path);
    }
}

Result<SnapshotHead> load_snapshot_head(const std::string & path, WrittenBy by) {
    const SourceFile file(path, by);
    try {
        auto read = read_head(file);
        if (!read) {
            return std::move(read.error());
        }
        return std::move(read->head);
    } catch (const std::bad_alloc &) {
        return at_path(no_memory_for_snapshot(file.bytes()), path);
    }
}

} // namespace ternion
