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
#include <functional>
#include <string>

namespace ternion {

struct PackCache {
    std::string folder; // empty: there is no cache
    uint64_t max_bytes = 0; // of all packs together; the ones used longest ago go first
    bool verify = false; // read all of a pack before it is used

    bool enabled() const { return !folder.empty() && kernels::PackedMemory::can_map(); }
    std::string path_of(const Fingerprint & model, const char * kernels) const;

    /// A pack whose head and table are sound, and with `verify` its weights, too; without memory: there is none. `cancel` may be
    /// set by any thread.
    kernels::StoredPack find(const Fingerprint & model, const char * kernels, const std::atomic<bool> & cancel) const;

    /// Makes room and writes a pack. Too large for the cache or the disk: false, and nothing is written. A small pack is made
    /// faster than it is read, so it is not kept either. `cancel` may be set by any thread.
    Result<bool> store(const Fingerprint & model, const char * kernels, const kernels::PackedWeights & weights, const std::atomic<bool> & cancel) const;
};

enum class PackState {
    whole,
    stale,  // of another version of ternion: of no use here, but not damaged as far as can be told
    damaged,
};

struct PackHealth {
    PackState state = PackState::whole;
    std::string problem; // in words; empty: none
};

/// Whether a pack is what was written: reads all of it. io if it cannot be read.
Result<PackHealth> verify_pack(const std::string & path, const std::function<void(double)> & progress, const std::atomic<bool> & cancel);

} // namespace ternion
