// Five ternary weights in a byte, as QuintTile has them.
#pragma once

#include <cstdint>

namespace ternion::kernels {

struct QuintWeights {
    uint8_t plus_one[5];
};

/// The weights of a code below 243, each plus one; other bytes do not occur.
constexpr QuintWeights quint_weights(int code) {
    const int e = code < 192 ? code / 64 : (code - 192) / 17;
    int q = code < 192 ? code % 64 : 64 + (code - 192) % 17;
    QuintWeights weights{};
    for (int p = 0; p < 4; ++p, q /= 3) {
        weights.plus_one[p] = static_cast<uint8_t>(q % 3);
    }
    weights.plus_one[4] = static_cast<uint8_t>(e);
    return weights;
}

} // namespace ternion::kernels
