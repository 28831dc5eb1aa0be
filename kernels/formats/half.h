// Half precision without an instruction for it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace ternion::kernels {

// Static, not inline: files of this folder are compiled for different instruction sets, and the linker would keep one
// copy of an inline function for all of them.
[[maybe_unused]] static float half_to_float(uint16_t half) {
    const int exponent = half >> 10 & 31;
    const int fraction = half & 1023;
    float magnitude;
    if (exponent == 31) {
        magnitude = fraction ? NAN : INFINITY;
    } else {
        magnitude = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24) : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
    }
    return half & 0x8000 ? -magnitude : magnitude;
}

/// The nearest half-precision number, ties to even.
[[maybe_unused]] static float rounded_to_half(float value) {
    const float magnitude = std::fabs(value);
    if (!(magnitude < 65520.0f)) { // also NaN
        return std::isnan(value) ? value : std::copysign(INFINITY, value);
    }
    // Adding and taking away a number whose last digit is the one that stays rounds as the processor does.
    const int exponent = std::max(std::ilogb(magnitude == 0.0f ? 1.0f : magnitude), -14);
    const float step = std::ldexp(1.0f, exponent - 10);
    return std::copysign(std::nearbyint(magnitude / step) * step, value);
}

} // namespace ternion::kernels
