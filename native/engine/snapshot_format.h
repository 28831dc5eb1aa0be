// Between snapshot.cc, which knows the head's bytes, and snapshot_file.cc, which reads and writes files piece by piece.
#pragma once

#include "snapshot.h"

namespace ternion {

/// A snapshot begins with these bytes in every version; they say how long the rest is.
constexpr size_t fixed_head_bytes = 36;

struct ReadHead {
    SnapshotHead head;
    uint64_t state_bytes = 0;
    uint64_t state_checksum = 0;
};

/// Bytes in front of the state: a multiple of 64.
uint64_t head_bytes(const SnapshotHead & head);
/// Writes exactly head_bytes(head).
void encode_head(const SnapshotHead & head, uint64_t state_bytes, uint64_t state_checksum, uint8_t * out);

/// Bytes of a head that begins with these, in a snapshot of `size`: from fixed_head_bytes to `size`, and not yet to be believed.
Result<uint64_t> announced_head_bytes(const uint8_t * fixed, uint64_t fixed_size, uint64_t size);
/// Of as many bytes as were announced, in a snapshot of `size`. Errors as those of decode(); throws std::bad_alloc.
Result<ReadHead> decode_head(const uint8_t * data, uint64_t bytes, uint64_t size);

Error corrupt(const std::string & problem);
Error no_memory_for_snapshot(uint64_t bytes);

} // namespace ternion
