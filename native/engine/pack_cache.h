// Packed weights on disk: a later load maps them instead of packing again.
//
//   <fingerprint>-<kernels>-<layout version>.pack
//
//   0     head: magic, versions, fingerprint, sizes, hash of the data, hash of head and table
//   ...   table: name, type, layout, shape and offset of every weight
//   64 Ki the weights, as they lie in memory
//
// A pack appears under its name when it is whole. One that is damaged, cut off, of another version or of another model is
// ignored, and replaced when the model has been packed again. Any thread.
#pragma once

#include "error.h"
#include "fingerprint.h"

#include "kernels/cpu/buffer_type.h"

#include <atomic>
#include <cstdint>
#include <string>

namespace ternion {

struct PackCache {
    std::string folder; // empty: there is no cache
    uint64_t max_bytes = 0; // of all packs together; the ones used longest ago go first

    bool enabled() const { return !folder.empty() && kernels::PackedMemory::can_map(); }
    std::string path_of(const Fingerprint & model, const char * kernels) const;

    /// A pack whose head and table are sound; without memory: there is none.
    kernels::StoredPack find(const Fingerprint & model, const char * kernels) const;

    /// Makes room and writes a pack. Too large for the cache or the disk: false, and nothing is written. A small pack is made
    /// faster than it is read, so it is not kept either. `cancel` may be set by any thread.
    Result<bool> store(const Fingerprint & model, const char * kernels, const kernels::PackedWeights & weights, const std::atomic<bool> & cancel) const;
};

/// Whether the weights of a pack are those that were written: reads all of it. io if it cannot be read; model_invalid, if head or
/// table are damaged.
Result<bool> verify_pack(const std::string & path);

} // namespace ternion
