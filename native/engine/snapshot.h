// A conversation's state as a value, and as a file (docs/snapshot.md has the format). Any thread.
#pragma once

#include "error.h"
#include "private_files.h"

#include "llama.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ternion {

/// Bytes that are not zeroed when they are made. Move-only.
struct Bytes {
    std::unique_ptr<uint8_t[]> data;
    size_t size = 0;

    static Bytes of(size_t n); // throws std::bad_alloc
};

/// A setting that state depends on: state made under another value is of no use. E.g. {"model", "<32 hex digits>"},
/// {"architecture", "llama"}, {"kv.k", "f16"}, {"build", ...}.
struct Setting {
    std::string name, value;
    bool operator==(const Setting &) const = default;
};

/// No snapshot has more settings.
constexpr size_t most_settings = 1024;

/// What a snapshot says of itself, without the state.
struct SnapshotHead {
    std::vector<Setting> settings;
    std::vector<llama_token> tokens; // from position 0
    uint32_t first = 0;              // the state holds the cells of positions [first, tokens.size())
    std::string text;                // what the tokens spell, as far as it is known; bytes
    std::string conversation;        // JSON of whoever made it; opaque here
};

/// A conversation's state as a value; immutable once made, so any thread may read it.
struct Snapshot : SnapshotHead {
    Bytes state;
};

/// Bytes of the file or buffer that it makes.
uint64_t encoded_bytes(const SnapshotHead & head, uint64_t state_bytes);
/// Writes exactly encoded_bytes(snapshot, snapshot.state.size).
void encode(const Snapshot & snapshot, uint8_t * out);
/// state_corrupt; state_mismatch for a format version or a flag that is not known; out_of_memory.
Result<Snapshot> decode(const uint8_t * data, uint64_t size);

/// The file is under its name when it is whole and synced; io leaves what stood there as it was.
Result<bool> save_snapshot(const Snapshot & snapshot, const std::string & path);
/// io (missing, unreadable, no file); and as decode(), with the path.
Result<Snapshot> load_snapshot(const std::string & path, WrittenBy by = WrittenBy::anybody);
/// Reads and verifies the head only, and that the file has the length that the head says.
Result<SnapshotHead> load_snapshot_head(const std::string & path, WrittenBy by = WrittenBy::anybody);

/// state_mismatch that names the first difference with both values. Their order does not matter.
Result<bool> check_settings(const std::vector<Setting> & found, const std::vector<Setting> & expected);

} // namespace ternion
