// Which model a file is, without reading all of it.
#pragma once

#include "error.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace ternion {

/// Mixes bytes into 128 bits, at the speed of memory. Not for data that somebody made to collide.
class Hash128 {
  public:
    void add(const void * data, size_t bytes);
    void add(uint64_t value) { add(&value, sizeof(value)); }
    std::array<uint64_t, 2> value() const;

  private:
    void mix(uint64_t a, uint64_t b);

    uint64_t low_ = 0x9e3779b97f4a7c15ULL, high_ = 0xd1b54a32d192ed03ULL, length_ = 0;
};

using Fingerprint = std::array<uint64_t, 2>;

/// Of header and tensor table, the sizes of all parts of a split file, and samples from the beginning, the middle and the end of
/// every tensor: fine-tunes of one model share all but the samples. Any thread; rejects as GgufFile::read() does.
Result<Fingerprint> fingerprint(const std::string & path);

/// 32 hexadecimal digits.
std::string to_text(const Fingerprint & fingerprint);

} // namespace ternion
