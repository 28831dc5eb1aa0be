// Files of /proc and /sys that hold one number.
#pragma once

#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

namespace ternion {

inline std::optional<uint64_t> read_number(const std::string & path) {
    std::ifstream file(path);
    uint64_t value;
    return file >> value ? std::optional(value) : std::nullopt;
}

} // namespace ternion
