// XXH3-64 by the vendored xxHash: finds damage at the speed of memory. Not for data that somebody made to collide.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ternion {

/// XXH3-64 without a seed: the same on every machine.
uint64_t checksum64(const void * data, size_t bytes);

/// The same of data that comes in pieces.
class Checksum64 {
  public:
    Checksum64();
    void add(const void * data, size_t bytes);
    /// Of all that was added so far.
    uint64_t value() const;

  private:
    alignas(64) unsigned char state_[576];
};

} // namespace ternion
