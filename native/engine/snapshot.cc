#include "snapshot.h"

#include "checksum.h"
#include "snapshot_format.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <new>
#include <utility>

namespace ternion {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers in a snapshot are little-endian");
static_assert(sizeof(llama_token) == 4);

constexpr char magic[8] = {'T', 'R', 'N', 'S', 'N', 'A', 'P', 0};
constexpr uint32_t format_version = 1;

// Offsets in the head. Up to fixed_head_bytes they hold for every version.
constexpr size_t at_head_bytes = 8, at_total_bytes = 16, at_head_checksum = 24, at_version = 32;
// Of version 1.
constexpr size_t at_flags = 36, at_state_checksum = 40, at_first = 48, at_settings = 52, at_tokens = 56, at_text = 64, at_conversation = 72;
constexpr size_t at_contents = 80;
constexpr uint64_t state_alignment = 64;

uint64_t aligned(uint64_t bytes) {
    return (bytes + state_alignment - 1) / state_alignment * state_alignment;
}

template <typename T>
T get(const uint8_t * at) {
    T value;
    std::memcpy(&value, at, sizeof(value));
    return value;
}

template <typename T>
void set(uint8_t * at, T value) {
    std::memcpy(at, &value, sizeof(value));
}

/// Of the whole head, with the field of the checksum as zero.
uint64_t head_checksum(const uint8_t * head, uint64_t bytes) {
    static const uint8_t zero[8] = {};
    Checksum64 sum;
    sum.add(head, at_head_checksum);
    sum.add(zero, sizeof(zero));
    sum.add(head + at_head_checksum + sizeof(zero), bytes - at_head_checksum - sizeof(zero));
    return sum.value();
}

uint64_t contents_bytes(const SnapshotHead & head) {
    uint64_t bytes = head.tokens.size() * sizeof(llama_token) + head.text.size() + head.conversation.size();
    for (const Setting & setting : head.settings) {
        bytes += 2 * sizeof(uint32_t) + setting.name.size() + setting.value.size();
    }
    return bytes;
}

class Writer {
  public:
    explicit Writer(uint8_t * at) : at_(at) {}

    void put(const void * data, size_t bytes) {
        if (bytes > 0) {
            std::memcpy(at_, data, bytes);
            at_ += bytes;
        }
    }
    void put(uint32_t value) { put(&value, sizeof(value)); }
    void put(const std::string & text) { put(text.data(), text.size()); }
    void zero_to(const uint8_t * end) { std::memset(at_, 0, static_cast<size_t>(end - at_)); }

  private:
    uint8_t * at_;
};

/// Takes bytes as long as there are some: what says that it is longer than what is left takes nothing and is false.
class Reader {
  public:
    Reader(const uint8_t * at, uint64_t left) : at_(at), left_(left) {}

    bool take(uint32_t & value) { return take(&value, 1, sizeof(value)); }
    bool take(std::string & text, uint64_t bytes) {
        if (bytes > left_) {
            return false;
        }
        text.resize(bytes);
        return take(text.data(), bytes, 1);
    }
    bool take(std::vector<llama_token> & tokens, uint64_t count) {
        if (count > left_ / sizeof(llama_token)) {
            return false;
        }
        tokens.resize(count);
        return take(tokens.data(), count, sizeof(llama_token));
    }
    /// Nothing is left but the padding in front of the state, which is zero.
    bool ends() const {
        return left_ < state_alignment && std::all_of(at_, at_ + left_, [](uint8_t byte) { return byte == 0; });
    }

  private:
    bool take(void * out, uint64_t count, uint64_t size) {
        if (count > left_ / size) {
            return false;
        }
        if (count > 0) {
            std::memcpy(out, at_, count * size);
            at_ += count * size;
            left_ -= count * size;
        }
        return true;
    }

    const uint8_t * at_;
    uint64_t left_;
};

bool read_settings(Reader & in, uint32_t count, std::vector<Setting> & settings) {
    if (count > most_settings) {
        return false;
    }
    for (uint32_t i = 0; i < count; ++i) {
        Setting & setting = settings.emplace_back();
        uint32_t name = 0, value = 0;
        if (!in.take(name) || !in.take(value) || !in.take(setting.name, name) || !in.take(setting.value, value)) {
            return false;
        }
    }
    return true;
}

Error mismatch(std::string message, const std::string & setting, const std::string * found, const std::string * expected) {
    Error error{ErrorCode::state_mismatch, std::move(message), {{"setting", setting}}};
    if (found) {
        error.details.push_back({"found", *found});
    }
    if (expected) {
        error.details.push_back({"expected", *expected});
    }
    return error;
}

Error unknown_version(uint32_t version) {
    const std::string found = std::to_string(version), expected = std::to_string(format_version);
    return mismatch("the snapshot has format version " + found + ", this ternion reads " + expected + ": restore it with the ternion that made it",
        "format version", &found, &expected);
}

Error unknown_flags(uint32_t flags) {
    char found[16];
    std::snprintf(found, sizeof(found), "0x%08x", flags);
    const std::string text = found, expected = "0x00000000";
    return mismatch("the snapshot has the flags " + text + ", which this ternion does not know: restore it with the ternion that made it",
        "flags", &text, &expected);
}

const Setting * find(const std::vector<Setting> & settings, const std::string & name) {
    const auto it = std::find_if(settings.begin(), settings.end(), [&](const Setting & setting) { return setting.name == name; });
    return it == settings.end() ? nullptr : &*it;
}

} // namespace

Bytes Bytes::of(size_t n) {
    return {std::make_unique_for_overwrite<uint8_t[]>(n), n};
}

Error corrupt(const std::string & problem) {
    return {ErrorCode::state_corrupt, problem + "; restore another copy, or begin the conversation anew"};
}

Error no_memory_for_snapshot(uint64_t bytes) {
    return {ErrorCode::out_of_memory, "a snapshot takes " + std::to_string(bytes) + " bytes of memory, which are not to be had"};
}

uint64_t head_bytes(const SnapshotHead & head) {
    return aligned(at_contents + contents_bytes(head));
}

void encode_head(const SnapshotHead & head, uint64_t state_bytes, uint64_t state_checksum, uint8_t * out) {
    const uint64_t bytes = head_bytes(head);
    std::memcpy(out, magic, sizeof(magic));
    set<uint64_t>(out + at_head_bytes, bytes);
    set<uint64_t>(out + at_total_bytes, bytes + state_bytes);
    set<uint32_t>(out + at_version, format_version);
    set<uint32_t>(out + at_flags, 0);
    set<uint64_t>(out + at_state_checksum, state_checksum);
    set<uint32_t>(out + at_first, head.first);
    set<uint32_t>(out + at_settings, static_cast<uint32_t>(head.settings.size()));
    set<uint64_t>(out + at_tokens, head.tokens.size());
    set<uint64_t>(out + at_text, head.text.size());
    set<uint64_t>(out + at_conversation, head.conversation.size());
    Writer writer(out + at_contents);
    for (const Setting & setting : head.settings) {
        writer.put(static_cast<uint32_t>(setting.name.size()));
        writer.put(static_cast<uint32_t>(setting.value.size()));
        writer.put(setting.name);
        writer.put(setting.value);
    }
    writer.put(head.tokens.data(), head.tokens.size() * sizeof(llama_token));
    writer.put(head.text);
    writer.put(head.conversation);
    writer.zero_to(out + bytes);
    set<uint64_t>(out + at_head_checksum, head_checksum(out, bytes));
}

Result<uint64_t> announced_head_bytes(const uint8_t * fixed, uint64_t fixed_size, uint64_t size) {
    if (fixed_size < fixed_head_bytes) {
        return corrupt("of a snapshot there are only " + std::to_string(size) + " bytes");
    }
    if (std::memcmp(fixed, magic, sizeof(magic)) != 0) {
        return corrupt("this is no snapshot, or its first bytes are damaged");
    }
    const uint64_t bytes = get<uint64_t>(fixed + at_head_bytes);
    if (bytes < fixed_head_bytes || bytes > size) {
        return corrupt("the snapshot's head is damaged or cut off: there are " + std::to_string(size) + " bytes");
    }
    return bytes;
}

Result<ReadHead> decode_head(const uint8_t * data, uint64_t bytes, uint64_t size) {
    if (head_checksum(data, bytes) != get<uint64_t>(data + at_head_checksum)) {
        return corrupt("the snapshot's head is damaged: its checksum is not that of what was written");
    }
    const uint64_t total = get<uint64_t>(data + at_total_bytes);
    if (total != size) {
        return corrupt("the snapshot is " + std::string(size < total ? "cut off" : "too long") + ": it should have " + std::to_string(total) +
            " bytes and has " + std::to_string(size));
    }
    if (const uint32_t version = get<uint32_t>(data + at_version); version != format_version) {
        return unknown_version(version);
    }
    const char * const senseless = "the snapshot's head makes no sense";
    if (bytes < at_contents || bytes % state_alignment != 0) {
        return corrupt(senseless);
    }
    if (const uint32_t flags = get<uint32_t>(data + at_flags); flags != 0) {
        return unknown_flags(flags);
    }
    ReadHead read{{}, total - bytes, get<uint64_t>(data + at_state_checksum)};
    SnapshotHead & head = read.head;
    head.first = get<uint32_t>(data + at_first);
    Reader in(data + at_contents, bytes - at_contents);
    if (!read_settings(in, get<uint32_t>(data + at_settings), head.settings) || !in.take(head.tokens, get<uint64_t>(data + at_tokens)) ||
        !in.take(head.text, get<uint64_t>(data + at_text)) || !in.take(head.conversation, get<uint64_t>(data + at_conversation)) ||
        !in.ends() || head.first > head.tokens.size()) {
        return corrupt(senseless);
    }
    return read;
}

uint64_t encoded_bytes(const SnapshotHead & head, uint64_t state_bytes) {
    return head_bytes(head) + state_bytes;
}

void encode(const Snapshot & snapshot, uint8_t * out) {
    const Bytes & state = snapshot.state;
    encode_head(snapshot, state.size, checksum64(state.data.get(), state.size), out);
    if (state.size > 0) {
        std::memcpy(out + head_bytes(snapshot), state.data.get(), state.size);
    }
}

Result<Snapshot> decode(const uint8_t * data, uint64_t size) {
    const auto bytes = announced_head_bytes(data, size, size);
    if (!bytes) {
        return bytes.error();
    }
    try {
        auto read = decode_head(data, *bytes, size);
        if (!read) {
            return std::move(read.error());
        }
        const uint8_t * state = data + *bytes;
        if (checksum64(state, read->state_bytes) != read->state_checksum) {
            return corrupt("the snapshot's state is not what was written");
        }
        Snapshot snapshot{std::move(read->head), Bytes::of(read->state_bytes)};
        std::memcpy(snapshot.state.data.get(), state, read->state_bytes);
        return snapshot;
    } catch (const std::bad_alloc &) {
        return no_memory_for_snapshot(size);
    }
}

Result<bool> check_settings(const std::vector<Setting> & found, const std::vector<Setting> & expected) {
    const auto differ = [](const std::string & name, const Setting * there, const Setting * wanted) {
        const std::string has = there ? " " + name + " = " + there->value : " no " + name;
        const std::string model = wanted ? there ? wanted->value : "has " + wanted->value : "has no such setting";
        return mismatch("the snapshot has" + has + ", the model " + model + "; state is of use only under the settings that it was made with", name,
            there ? &there->value : nullptr, wanted ? &wanted->value : nullptr);
    };
    for (const Setting & wanted : expected) {
        const Setting * const there = find(found, wanted.name);
        if (!there || there->value != wanted.value) {
            return differ(wanted.name, there, &wanted);
        }
    }
    for (const Setting & there : found) { // a name that comes twice, too
        const Setting * const wanted = find(expected, there.name);
        if (!wanted || wanted->value != there.value) {
            return differ(there.name, &there, wanted);
        }
    }
    return true;
}

} // namespace ternion
