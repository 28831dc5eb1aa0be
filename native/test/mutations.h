// Model files as a stranger might send them: changed in bytes, or in what the header says, each by a number that makes it again.
#pragma once

#include "engine/gguf_raw.h"

#include "gguf.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

namespace mutations {

using ternion::RawEntry;
using ternion::RawGguf;
using ternion::RawTensor;

template <typename T>
void put(std::string & out, T value) {
    out.append(reinterpret_cast<const char *>(&value), sizeof(value));
}

inline void put_text(std::string & out, const std::string & text) {
    put<uint64_t>(out, text.size());
    out += text;
}

inline std::string text_value(const std::string & text) {
    std::string out;
    put_text(out, text);
    return out;
}

/// As header_bytes(), but of offsets and counts as they are given.
inline std::string header_of(const RawGguf & gguf, uint64_t tensors, uint64_t entries) {
    std::string out = "GGUF";
    put<uint32_t>(out, 3);
    put<uint64_t>(out, tensors);
    put<uint64_t>(out, entries);
    for (const RawEntry & entry : gguf.metadata) {
        put_text(out, entry.key);
        put<uint32_t>(out, entry.type);
        out += entry.value;
    }
    for (const RawTensor & tensor : gguf.tensors) {
        put_text(out, tensor.name);
        put<uint32_t>(out, static_cast<uint32_t>(tensor.shape.size()));
        for (const int64_t n : tensor.shape) {
            put<int64_t>(out, n);
        }
        put<uint32_t>(out, tensor.type);
        put<uint64_t>(out, tensor.offset);
    }
    out.resize((out.size() + 31) / 32 * 32, '\0');
    return out;
}

class Mutator {
  public:
    explicit Mutator(const std::string & path) : gguf_(*RawGguf::read(path)) {
        std::ifstream file(path, std::ios::binary);
        bytes_.assign(std::istreambuf_iterator<char>(file), {});
    }

    /// The file of that number; `what` says how it differs.
    std::string make(uint64_t seed, std::string & what) {
        random_.seed(seed);
        what.clear();
        if (below(4) == 0) {
            return raw(what);
        }
        RawGguf changed = gguf_;
        entries_ = changed.metadata.size();
        tensors_ = changed.tensors.size();
        bool exact = true; // counts follow from the lists
        for (uint64_t n = below(3) == 0 ? 3 : 1; n > 0; --n) {
            structured(changed, what, exact);
        }
        std::string out = exact ? header_of(changed, changed.tensors.size(), changed.metadata.size()) : header_of(changed, tensors_, entries_);
        out.append(bytes_, gguf_.data_offset);
        if (below(8) == 0) {
            weights(out, what);
        }
        return out;
    }

  private:
    uint64_t below(uint64_t n) { return random_() % n; }
    template <typename T>
    const T & any(const std::vector<T> & list) { return list[below(list.size())]; }

    uint64_t number(uint64_t old) {
        static const std::vector<uint64_t> known = {0, 0, 1, 2, 3, 5, 6, 7, 8, 12, 16, 31, 32, 33, 48, 63, 64, 65, 96, 100, 127, 128, 129, 192, 255, 256, 257, 511, 512, 513, 1000, 1024, 4096, 65535, 65536, 1 << 20,
                                                    1 << 24, 1 << 30, INT32_MAX, 1u << 31, UINT32_MAX - 1, UINT32_MAX, 1ull << 32, 1ull << 40, 1ull << 60, INT64_MAX, 1ull << 63, UINT64_MAX - 31, UINT64_MAX};
        switch (below(8)) {
            case 0: return old + 1;
            case 1: return old - 1;
            case 2: return old * 2;
            case 3: return old / 2;
            default: return any(known);
        }
    }

    void set_number(std::string & value, size_t at, size_t bytes) {
        if (bytes > sizeof(uint64_t) || at > value.size() || bytes > value.size() - at) {
            return; // what was changed before has left no such number
        }
        uint64_t old = 0;
        std::memcpy(&old, value.data() + at, bytes);
        const uint64_t now = number(old);
        std::memcpy(value.data() + at, &now, bytes);
    }

    std::string real() {
        static const std::vector<double> known = {0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, -1e-6, 1e38, NAN, INFINITY, -INFINITY, 0.5, 1e6};
        std::string out;
        put<float>(out, static_cast<float>(any(known)));
        return out;
    }

    static size_t item_bytes(uint32_t type) {
        switch (type) {
            case GGUF_TYPE_UINT8: case GGUF_TYPE_INT8: case GGUF_TYPE_BOOL: return 1;
            case GGUF_TYPE_UINT16: case GGUF_TYPE_INT16: return 2;
            case GGUF_TYPE_UINT64: case GGUF_TYPE_INT64: case GGUF_TYPE_FLOAT64: return 8;
            case GGUF_TYPE_STRING: case GGUF_TYPE_ARRAY: return 0;
            default: return 4;
        }
    }

    std::string text() {
        switch (below(8)) {
            case 0: return "";
            case 1: return std::string(1 + below(1 << 20), 'x');
            case 2: return std::string("a\0b", 3);
            case 3: return "\xFF\xFE\xC0";
            case 4: return any(gguf_.metadata).key;
            case 5: return std::string(1 + below(5000), '{') + "%";
            default: {
                static const std::vector<std::string> words = {"llama", "mamba", "qwen3", "qwen35", "qwen3moe", "gemma3", "bert", "t5", "rwkv7", "gpt2", "none", "no_vocab", "spm", "rwkv", "plamo2", "yarn", "longrope", "deepseek2",
                                                               "phi3", "falcon-h1", "clip", "gpt-oss", "bitnet", "default", "kimi-k2", "unknown", "{{ messages", "{% for i in range(1000000000) %}x{% endfor %}", "mamba2", "jamba", "llama4"};
                return any(words);
            }
        }
    }

    /// An entry about sizes twice as often as any other.
    RawEntry & entry(RawGguf & gguf) {
        RawEntry & first = gguf.metadata[below(gguf.metadata.size())];
        return first.key.starts_with("tokenizer.") && below(2) == 0 ? gguf.metadata[below(gguf.metadata.size())] : first;
    }

    void change_value(RawEntry & entry) {
        if (entry.type == GGUF_TYPE_STRING) {
            entry.value = text_value(text());
        } else if (entry.type == GGUF_TYPE_FLOAT32) {
            entry.value = real();
        } else if (entry.type == GGUF_TYPE_ARRAY) {
            change_array(entry);
        } else {
            set_number(entry.value, 0, entry.value.size());
        }
    }

    void change_array(RawEntry & entry) {
        if (entry.value.size() < 12) {
            return;
        }
        uint32_t item;
        uint64_t n;
        std::memcpy(&item, entry.value.data(), 4);
        std::memcpy(&n, entry.value.data() + 4, 8);
        const size_t bytes = item_bytes(item);
        if (n > entry.value.size()) {
            return;
        }
        const auto set_count = [&](uint64_t count) { std::memcpy(entry.value.data() + 4, &count, 8); };
        switch (below(6)) {
            case 0: // shorter, soundly where items have a size
                if (bytes > 0 && n > 0) {
                    n = below(n);
                    entry.value.resize(12 + n * bytes);
                }
                set_count(n);
                break;
            case 1: // empty
                entry.value.resize(12);
                set_count(0);
                break;
            case 2: set_count(number(n)); break;
            case 3: // one item more
                entry.value += bytes > 0 ? std::string(bytes, '\1') : text_value("x");
                set_count(n + 1);
                break;
            case 4: set_number(entry.value, 0, 4); break;
            default: // items
                for (uint64_t k = 1 + below(4); k > 0 && bytes > 0 && n > 0; --k) {
                    set_number(entry.value, 12 + below(n) * bytes, bytes);
                }
                if (bytes == 0 && entry.value.size() > 32) {
                    entry.value[12 + 8 + below(entry.value.size() - 21)] = static_cast<char>(below(256));
                }
                break;
        }
    }

    void change_tensor(RawTensor & tensor, RawGguf & gguf) {
        switch (below(6)) {
            case 0: any_dimension(tensor) = static_cast<int64_t>(number(static_cast<uint64_t>(tensor.shape[0]))); break;
            case 1: tensor.type = static_cast<uint32_t>(below(3) == 0 ? number(tensor.type) : below(48)); break;
            case 2: tensor.offset = number(tensor.offset); break;
            case 3: tensor.name = below(2) == 0 ? any(gguf.tensors).name : text().substr(0, 100); break;
            case 4: below(2) == 0 && tensor.shape.size() > 1 ? tensor.shape.pop_back() : tensor.shape.push_back(static_cast<int64_t>(below(3))); break;
            default: std::swap(tensor.type, gguf.tensors[below(gguf.tensors.size())].type); break;
        }
    }
    int64_t & any_dimension(RawTensor & tensor) { return tensor.shape[below(tensor.shape.size())]; }

    void structured(RawGguf & gguf, std::string & what, bool & exact) {
        if (gguf.metadata.empty() || gguf.tensors.empty()) {
            return;
        }
        const uint64_t kind = below(24) % 16; // what changes values twice as often
        RawEntry & at = entry(gguf);
        RawTensor & tensor = gguf.tensors[below(gguf.tensors.size())];
        what += "; kind " + std::to_string(kind) + " " + (kind < 11 ? at.key : tensor.name).substr(0, 60);
        switch (kind) {
            case 0: case 1: case 2: case 3: case 4: case 5: change_value(at); break;
            case 6: // another type, of the value that is there or of a sound one
                at.type = static_cast<uint32_t>(below(14));
                if (below(2) == 0) {
                    at.value = at.type == GGUF_TYPE_STRING ? text_value(text()) : std::string(item_bytes(at.type), static_cast<char>(below(256)));
                }
                break;
            case 7: gguf.metadata.erase(gguf.metadata.begin() + (&at - gguf.metadata.data())); break;
            case 8: at.key = below(2) == 0 ? any(gguf.metadata).key : text().substr(0, 200); break;
            case 9: {
                const RawEntry & other = any(gguf.metadata);
                at.type = other.type;
                at.value = std::string(other.value);
                break;
            }
            case 10: { // a number or a text becomes a list by layer
                std::string list;
                put<uint32_t>(list, at.type == GGUF_TYPE_ARRAY ? static_cast<uint32_t>(GGUF_TYPE_INT32) : at.type);
                const uint64_t n = below(10);
                put<uint64_t>(list, n);
                for (uint64_t i = 0; i < n; ++i) {
                    list += at.value;
                }
                at = {at.key, GGUF_TYPE_ARRAY, list};
                break;
            }
            case 11: gguf.tensors.erase(gguf.tensors.begin() + (&tensor - gguf.tensors.data())); break;
            case 12: // counts
                exact = false;
                (below(2) == 0 ? entries_ : tensors_) = number(entries_);
                break;
            default: change_tensor(tensor, gguf); break;
        }
    }

    std::string raw(std::string & what) {
        std::string out = bytes_;
        const uint64_t header = gguf_.data_offset;
        // Most of a header is its vocabulary: half of the changes are before or behind it.
        const auto place = [&] { return below(2) == 0 ? below(header) : below(2) == 0 ? below(std::min<uint64_t>(header, 2000)) : header - 1 - below(std::min<uint64_t>(header, 4000)); };
        switch (below(5)) {
            case 0:
                for (uint64_t n = 1 + below(8); n > 0; --n) {
                    const uint64_t at = place();
                    out[at] = static_cast<char>(below(256));
                    what += " byte " + std::to_string(at);
                }
                break;
            case 1: {
                const uint64_t at = place();
                const size_t bytes = below(2) == 0 ? 4 : 8;
                set_number(out, at, bytes);
                what += " number at " + std::to_string(at);
                break;
            }
            case 2:
                out.resize(below(2) == 0 ? place() : below(out.size()));
                what += " cut to " + std::to_string(out.size());
                break;
            case 3: {
                const uint64_t at = place(), n = 1 + below(64);
                out.erase(at, n);
                what += " without " + std::to_string(n) + " bytes at " + std::to_string(at);
                break;
            }
            default: weights(out, what); break;
        }
        return out;
    }

    void weights(std::string & out, std::string & what) {
        const uint64_t begin = std::min<uint64_t>(gguf_.data_offset, out.size() / 2);
        for (uint64_t n = 1 + below(400); n > 0; --n) {
            const uint64_t at = begin + below(out.size() - begin);
            const uint64_t bytes = std::min<uint64_t>(1 + below(64), out.size() - at);
            const bool same = below(2) == 0;
            for (uint64_t i = 0; i < bytes; ++i) {
                out[at + i] = static_cast<char>(same ? 255 : below(256));
            }
        }
        what += "; weights";
    }

    const RawGguf gguf_;
    std::string bytes_;
    std::mt19937_64 random_;
    uint64_t entries_ = 0, tensors_ = 0;
};

} // namespace mutations
