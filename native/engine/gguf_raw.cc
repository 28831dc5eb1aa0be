#include "gguf_raw.h"

#include "gguf_file.h"

#include "gguf.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace ternion {
namespace {

constexpr uint64_t most_header_bytes = 512u << 20;

/// Bytes of a value of a scalar type; 0 for texts, arrays and numbers that are no type.
size_t scalar_bytes(uint32_t type) {
    switch (type) {
        case GGUF_TYPE_UINT8: case GGUF_TYPE_INT8: case GGUF_TYPE_BOOL:      return 1;
        case GGUF_TYPE_UINT16: case GGUF_TYPE_INT16:                         return 2;
        case GGUF_TYPE_UINT32: case GGUF_TYPE_INT32: case GGUF_TYPE_FLOAT32: return 4;
        case GGUF_TYPE_UINT64: case GGUF_TYPE_INT64: case GGUF_TYPE_FLOAT64: return 8;
        default:                                                             return 0;
    }
}

struct Damaged {
    std::string why;
};

/// Reads forward; what goes beyond the file's end, or is larger than any header, throws Damaged.
class Reader {
  public:
    Reader(const std::string & path, uint64_t size) : file_(path, std::ios::binary), size_(size) {}

    uint64_t position() const { return position_; }

    void bytes(std::string & out, uint64_t n) {
        if (n > size_ - position_ || position_ + n > most_header_bytes) {
            throw Damaged{n > size_ - position_ ? "the file ends within its header" : "its header is larger than any model's"};
        }
        const size_t at = out.size();
        out.resize(at + n);
        if (!file_.read(out.data() + at, static_cast<std::streamsize>(n))) {
            throw Damaged{"the file ends within its header"};
        }
        position_ += n;
    }

    template <typename T>
    T number() {
        std::string raw;
        bytes(raw, sizeof(T));
        T value;
        std::memcpy(&value, raw.data(), sizeof(T));
        return value;
    }

    /// A text with its length before it, as it stands.
    void raw_text(std::string & out) {
        const size_t at = out.size();
        bytes(out, sizeof(uint64_t));
        uint64_t n;
        std::memcpy(&n, out.data() + at, sizeof(n));
        bytes(out, n);
    }

    std::string text() {
        std::string raw;
        raw_text(raw);
        return raw.substr(sizeof(uint64_t));
    }

    void value(uint32_t type, std::string & out) {
        if (const size_t n = scalar_bytes(type)) {
            bytes(out, n);
        } else if (type == GGUF_TYPE_STRING) {
            raw_text(out);
        } else if (type == GGUF_TYPE_ARRAY) {
            const size_t at = out.size();
            bytes(out, sizeof(uint32_t) + sizeof(uint64_t));
            uint32_t item;
            uint64_t count;
            std::memcpy(&item, out.data() + at, sizeof(item));
            std::memcpy(&count, out.data() + at + sizeof(item), sizeof(count));
            if (const size_t n = scalar_bytes(item)) {
                if (count > most_header_bytes) {
                    throw Damaged{"its header is larger than any model's"};
                }
                bytes(out, count * n);
            } else if (item == GGUF_TYPE_STRING) {
                for (uint64_t i = 0; i < count; ++i) {
                    raw_text(out);
                }
            } else {
                throw Damaged{"an array of type " + std::to_string(item) + " in its metadata"};
            }
        } else {
            throw Damaged{"a value of type " + std::to_string(type) + " in its metadata"};
        }
    }

  private:
    std::ifstream file_;
    const uint64_t size_;
    uint64_t position_ = 0;
};

void read_tensors(Reader & in, uint64_t count, RawGguf & out) {
    for (uint64_t i = 0; i < count; ++i) {
        RawTensor & tensor = out.tensors.emplace_back();
        tensor.name = in.text();
        const auto dimensions = in.number<uint32_t>();
        if (dimensions > 4) {
            throw Damaged{"tensor " + tensor.name + " has " + std::to_string(dimensions) + " dimensions"};
        }
        double weights = 1.0;
        for (uint32_t d = 0; d < dimensions; ++d) {
            const auto n = in.number<uint64_t>();
            weights *= static_cast<double>(n);
            if (n == 0 || weights > 0x1p50) {
                throw Damaged{"tensor " + tensor.name + " has impossible dimensions"};
            }
            tensor.shape.push_back(static_cast<int64_t>(n));
        }
        if (dimensions == 0) { // a single number
            tensor.shape.push_back(1);
        }
        tensor.type = in.number<uint32_t>();
        tensor.offset = in.number<uint64_t>();
    }
}

void find_extents(RawGguf & gguf) {
    const uint64_t data_bytes = gguf.file_bytes > gguf.data_offset ? gguf.file_bytes - gguf.data_offset : 0;
    std::vector<uint64_t> offsets;
    for (const RawTensor & tensor : gguf.tensors) {
        if (tensor.offset > data_bytes) {
            throw Damaged{"tensor " + tensor.name + " begins behind the file's end; the file is cut, or damaged"};
        }
        offsets.push_back(tensor.offset);
    }
    std::sort(offsets.begin(), offsets.end());
    for (RawTensor & tensor : gguf.tensors) {
        const auto next = std::upper_bound(offsets.begin(), offsets.end(), tensor.offset);
        tensor.extent = (next == offsets.end() ? data_bytes : *next) - tensor.offset;
    }
}

void put_bytes(std::string & out, const void * data, size_t n) { out.append(static_cast<const char *>(data), n); }
void put_u32(std::string & out, uint32_t value) { put_bytes(out, &value, sizeof(value)); }
void put_u64(std::string & out, uint64_t value) { put_bytes(out, &value, sizeof(value)); }
void put_text(std::string & out, const std::string & text) {
    put_u64(out, text.size());
    out += text;
}

} // namespace

Result<RawGguf> RawGguf::read(const std::string & path) {
    if (auto ok = check_gguf_file(path); !ok) {
        return ok.error();
    }
    try {
        RawGguf gguf;
        gguf.file_bytes = std::filesystem::file_size(path);
        Reader in(path, gguf.file_bytes);
        in.number<uint32_t>(); // the magic, which was checked
        const auto version = in.number<uint32_t>();
        if (version != 2 && version != 3) {
            throw Damaged{"GGUF version " + std::to_string(version) + ", expected 2 or 3 in little-endian order"};
        }
        const auto n_tensors = in.number<uint64_t>();
        const auto n_entries = in.number<uint64_t>();
        if (n_tensors > GgufFile::most_tensors || n_entries > GgufFile::most_entries) {
            throw Damaged{"its header is larger than any model's"};
        }
        for (uint64_t i = 0; i < n_entries; ++i) {
            RawEntry & entry = gguf.metadata.emplace_back();
            entry.key = in.text();
            entry.type = in.number<uint32_t>();
            in.value(entry.type, entry.value);
        }
        if (const uint64_t alignment = number_of(gguf.metadata, "general.alignment"); alignment != 0) {
            gguf.alignment = alignment;
        }
        if (gguf.alignment > 1 << 20) {
            throw Damaged{"an alignment of " + std::to_string(gguf.alignment)};
        }
        read_tensors(in, n_tensors, gguf);
        gguf.data_offset = (in.position() + gguf.alignment - 1) / gguf.alignment * gguf.alignment;
        find_extents(gguf);
        return gguf;
    } catch (const Damaged & damage) {
        return Error{ErrorCode::model_invalid, path + ": " + damage.why, {{"path", path}}};
    } catch (const std::filesystem::filesystem_error & e) {
        return Error{ErrorCode::model_invalid, path + ": " + e.code().message(), {{"path", path}}};
    }
}

const RawEntry * find_entry(const std::vector<RawEntry> & metadata, const std::string & key) {
    const auto found = std::find_if(metadata.begin(), metadata.end(), [&](const RawEntry & entry) { return entry.key == key; });
    return found == metadata.end() ? nullptr : &*found;
}

std::string text_of(const std::vector<RawEntry> & metadata, const std::string & key) {
    const RawEntry * entry = find_entry(metadata, key);
    return entry && entry->type == GGUF_TYPE_STRING ? entry->value.substr(sizeof(uint64_t)) : std::string();
}

uint64_t number_of(const std::vector<RawEntry> & metadata, const std::string & key) {
    const RawEntry * entry = find_entry(metadata, key);
    uint64_t value = 0;
    if (entry && (entry->type == GGUF_TYPE_UINT32 || entry->type == GGUF_TYPE_UINT64)) {
        std::memcpy(&value, entry->value.data(), entry->value.size()); // little-endian, as the file is
    }
    return value;
}

uint64_t array_length(const std::vector<RawEntry> & metadata, const std::string & key) {
    const RawEntry * entry = find_entry(metadata, key);
    uint64_t n = 0;
    if (entry && entry->type == GGUF_TYPE_ARRAY) {
        std::memcpy(&n, entry->value.data() + sizeof(uint32_t), sizeof(n));
    }
    return n;
}

void set_entry(std::vector<RawEntry> & metadata, RawEntry entry) {
    const auto found = std::find_if(metadata.begin(), metadata.end(), [&](const RawEntry & each) { return each.key == entry.key; });
    if (found == metadata.end()) {
        metadata.push_back(std::move(entry));
    } else {
        *found = std::move(entry);
    }
}

void set_text(std::vector<RawEntry> & metadata, const std::string & key, const std::string & text) {
    RawEntry entry{key, GGUF_TYPE_STRING, {}};
    put_text(entry.value, text);
    set_entry(metadata, std::move(entry));
}

void set_u32(std::vector<RawEntry> & metadata, const std::string & key, uint32_t number) {
    RawEntry entry{key, GGUF_TYPE_UINT32, {}};
    put_u32(entry.value, number);
    set_entry(metadata, std::move(entry));
}

void set_f32(std::vector<RawEntry> & metadata, const std::string & key, float number) {
    RawEntry entry{key, GGUF_TYPE_FLOAT32, {}};
    put_bytes(entry.value, &number, sizeof(number));
    set_entry(metadata, std::move(entry));
}

std::string header_bytes(const std::vector<RawEntry> & metadata, const std::vector<TensorRow> & tensors) {
    std::string out = GGUF_MAGIC;
    put_u32(out, GGUF_VERSION);
    put_u64(out, tensors.size());
    put_u64(out, metadata.size());
    for (const RawEntry & entry : metadata) {
        put_text(out, entry.key);
        put_u32(out, entry.type);
        out += entry.value;
    }
    uint64_t offset = 0;
    for (const TensorRow & tensor : tensors) {
        put_text(out, tensor.name);
        put_u32(out, static_cast<uint32_t>(tensor.shape.size()));
        for (const int64_t n : tensor.shape) {
            put_u64(out, static_cast<uint64_t>(n));
        }
        put_u32(out, tensor.type);
        put_u64(out, offset);
        offset += padded(tensor.bytes);
    }
    out.resize(padded(out.size()), '\0');
    return out;
}

} // namespace ternion
