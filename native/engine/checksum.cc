#include "checksum.h"

#include <new>

// All of it as static functions of this file: another addon in the process may bring its own.
#define XXH_INLINE_ALL
#include "xxhash.h"

namespace ternion {
namespace {

XXH3_state_t * state_in(unsigned char * bytes) {
    return std::launder(reinterpret_cast<XXH3_state_t *>(bytes));
}

} // namespace

uint64_t checksum64(const void * data, size_t bytes) {
    return XXH3_64bits(data, bytes);
}

Checksum64::Checksum64() {
    static_assert(sizeof(XXH3_state_t) <= sizeof(state_) && alignof(XXH3_state_t) <= alignof(Checksum64));
    XXH3_64bits_reset(new (state_) XXH3_state_t);
}

void Checksum64::add(const void * data, size_t bytes) {
    if (bytes > 0) {
        XXH3_64bits_update(state_in(state_), data, bytes);
    }
}

uint64_t Checksum64::value() const {
    return XXH3_64bits_digest(state_in(const_cast<unsigned char *>(state_)));
}

} // namespace ternion
