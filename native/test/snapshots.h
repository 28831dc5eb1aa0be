// What the tests of snapshots share: made-up ones.
#pragma once

#include "scratch.h"

#include "engine/snapshot.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

namespace snapshots {

namespace fs = std::filesystem;
using namespace ternion;

inline const std::vector<Setting> settings = {{"model", "00112233445566778899aabbccddeeff"}, {"architecture", "llama"}, {"kv.k", "f16"}};

/// The same for the same arguments.
inline Snapshot sample(uint64_t seed, size_t tokens, size_t state_bytes) {
    std::mt19937_64 random(seed);
    Snapshot snapshot;
    snapshot.settings = settings;
    for (size_t i = 0; i < tokens; ++i) {
        snapshot.tokens.push_back(static_cast<llama_token>(random() % 32000));
    }
    snapshot.first = static_cast<uint32_t>(tokens / 3);
    snapshot.text = std::string("M\xc3\xb6we\0\xff", 7) + std::to_string(seed);
    snapshot.conversation = "[{\"role\":\"user\",\"content\":\"" + std::to_string(seed) + "\"}]";
    snapshot.state = Bytes::of(state_bytes);
    for (size_t i = 0; i < state_bytes; ++i) {
        snapshot.state.data[i] = static_cast<uint8_t>(random() >> 32);
    }
    return snapshot;
}

inline bool same(const SnapshotHead & a, const SnapshotHead & b) {
    return a.settings == b.settings && a.tokens == b.tokens && a.first == b.first && a.text == b.text && a.conversation == b.conversation;
}

inline bool same(const Snapshot & a, const Snapshot & b) {
    return same(static_cast<const SnapshotHead &>(a), b) && a.state.size == b.state.size &&
        (a.state.size == 0 || std::memcmp(a.state.data.get(), b.state.data.get(), a.state.size) == 0);
}

inline std::vector<uint8_t> encoded(const Snapshot & snapshot) {
    std::vector<uint8_t> bytes(encoded_bytes(snapshot, snapshot.state.size));
    encode(snapshot, bytes.data());
    return bytes;
}

inline std::vector<uint8_t> read_file(const fs::path & path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_file(const fs::path & path, const std::vector<uint8_t> & bytes) {
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

inline std::vector<std::string> names_in(const fs::path & folder) {
    std::vector<std::string> names;
    for (const auto & entry : fs::directory_iterator(folder)) {
        names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
}

} // namespace snapshots
