#include "pack_cache.h"

#include "log.h"
#include "partial_file.h"
#include "private_files.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <type_traits>
#include <vector>

#ifndef _WIN32
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace ternion {
namespace {

namespace fs = std::filesystem;

constexpr char magic[8] = {'T', 'R', 'N', 'P', 'A', 'C', 'K', 0};
constexpr uint32_t file_version = 1;
constexpr uint64_t data_alignment = 65536; // any system's page size divides it
constexpr uint64_t least_bytes = 16 << 20;
constexpr uint64_t most_table_bytes = 64 << 20;

struct Head {
    char magic[8];
    uint32_t file_version;
    uint32_t layout_version;
    uint64_t model[2];
    uint64_t table_bytes;
    uint64_t data_offset;
    uint64_t data_bytes;
    uint64_t data_hash[2];
    uint64_t head_hash[2]; // of what stands above, and the table
};
static_assert(std::is_trivially_copyable_v<Head> && sizeof(Head) == 88);

using File = std::unique_ptr<FILE, int (*)(FILE *)>;

void put(std::string & out, uint64_t value) {
    out.append(reinterpret_cast<const char *>(&value), sizeof(value));
}

std::string table_of(const std::vector<kernels::PackedEntry> & entries) {
    std::string table;
    for (const kernels::PackedEntry & entry : entries) {
        put(table, entry.name.size());
        table += entry.name;
        put(table, static_cast<uint64_t>(static_cast<uint32_t>(entry.type)));
        put(table, static_cast<uint64_t>(entry.layout));
        for (const uint64_t n : entry.shape) {
            put(table, n);
        }
        put(table, entry.offset);
    }
    return table;
}

/// False if it is not a table.
bool read_table(const std::string & table, std::vector<kernels::PackedEntry> & entries) {
    size_t at = 0;
    const auto take = [&](uint64_t & value) {
        if (table.size() - at < sizeof(value)) {
            return false;
        }
        std::memcpy(&value, table.data() + at, sizeof(value));
        at += sizeof(value);
        return true;
    };
    while (at < table.size()) {
        kernels::PackedEntry & entry = entries.emplace_back();
        uint64_t length = 0, type = 0, layout = 0;
        if (!take(length) || length > table.size() - at) {
            return false;
        }
        entry.name = table.substr(at, length);
        at += length;
        if (!take(type) || !take(layout) || !take(entry.shape[0]) || !take(entry.shape[1]) || !take(entry.shape[2]) || !take(entry.offset)) {
            return false;
        }
        entry.type = static_cast<int32_t>(type);
        entry.layout = static_cast<kernels::Layout>(layout);
    }
    return true;
}

std::array<uint64_t, 2> hash_of(const Head & head, const std::string & table) {
    Hash128 hash;
    hash.add(&head, offsetof(Head, head_hash));
    hash.add(table.data(), table.size());
    return hash.value();
}

/// Reads head and table; `entries` are those of a whole pack.
PackHealth read_head(FILE * file, uint64_t file_bytes, Head & head, std::vector<kernels::PackedEntry> & entries) {
    const auto damaged = [](const char * problem) { return PackHealth{PackState::damaged, problem}; };
    if (std::fread(&head, sizeof(head), 1, file) != 1 || std::memcmp(head.magic, magic, sizeof(magic)) != 0) {
        return damaged("this is no pack");
    }
    if (head.file_version != file_version) {
        return {PackState::stale, "of another version of ternion"};
    }
    std::string table;
    if (head.table_bytes <= std::min(most_table_bytes, file_bytes)) {
        table.resize(head.table_bytes);
    }
    if (table.size() != head.table_bytes || std::fread(table.data(), 1, table.size(), file) != table.size()) {
        return damaged("the table is cut off");
    }
    const auto hash = hash_of(head, table);
    if (!std::equal(hash.begin(), hash.end(), head.head_hash)) {
        return damaged("head and table are not what was written");
    }
    if (head.layout_version != kernels::layout_version) {
        return {PackState::stale, "of another version of ternion"};
    }
    if (head.data_offset % data_alignment != 0 || head.data_bytes == 0 || !read_table(table, entries)) {
        return damaged("the table makes no sense");
    }
    if (head.data_offset > file_bytes || file_bytes - head.data_offset != head.data_bytes) {
        return damaged("the file is longer or shorter than it says");
    }
    return {};
}

/// Whether the data is what was written. After `cancel` the answer means nothing.
bool data_is_whole(FILE * file, const Head & head, const std::function<void(double)> & progress, const std::atomic<bool> & cancel) {
    std::vector<char> chunk(4 << 20);
    Hash128 hash;
    if (std::fseek(file, static_cast<long>(head.data_offset), SEEK_SET) != 0) {
        return false;
    }
    for (uint64_t left = head.data_bytes; left > 0 && !cancel;) {
        const size_t n = std::fread(chunk.data(), 1, static_cast<size_t>(std::min<uint64_t>(chunk.size(), left)), file);
        if (n == 0) {
            return false;
        }
        hash.add(chunk.data(), n);
        left -= n;
        if (progress) {
            progress(1.0 - static_cast<double>(left) / static_cast<double>(head.data_bytes));
        }
    }
    const auto value = hash.value();
    return std::equal(value.begin(), value.end(), head.data_hash);
}

struct Known {
    fs::path path;
    uint64_t bytes;
    fs::file_time_type used;
};

/// Of this cache, or begun by it: the folder may hold other things, too.
bool is_named_like_a_pack(const std::string & name) {
    constexpr size_t digits = 2 * sizeof(Fingerprint);
    const bool fingerprint = name.size() > digits && name.find_first_not_of("0123456789abcdef") == digits && name[digits] == '-';
    return fingerprint && (name.ends_with(".pack") || (name.find(".pack.") != std::string::npos && name.ends_with(".partial")));
}

std::vector<Known> packs_in(const fs::path & folder) {
    std::vector<Known> packs;
    std::error_code ec;
    for (fs::directory_iterator it(folder, ec), end; !ec && it != end; it.increment(ec)) {
        std::error_code gone; // somebody else may be making room, too
        const auto bytes = it->file_size(gone);
        const auto used = it->last_write_time(gone);
        if (gone || !it->is_regular_file(gone) || !is_named_like_a_pack(it->path().filename().string())) {
            continue;
        }
        if (it->path().extension() == ".pack") {
            packs.push_back({it->path(), bytes, used});
        } else if (it->path().extension() == ".partial" && fs::file_time_type::clock::now() - used > std::chrono::hours(24)) {
            fs::remove(it->path(), gone); // of a process that was killed
        }
    }
    return packs;
}

bool make_room(const PackCache & cache, uint64_t bytes) {
    if (bytes > cache.max_bytes) {
        return false;
    }
    std::vector<Known> packs = packs_in(cache.folder);
    std::sort(packs.begin(), packs.end(), [](const Known & a, const Known & b) { return a.used < b.used; });
    uint64_t total = bytes;
    for (const Known & pack : packs) {
        total += pack.bytes;
    }
    // Nothing goes for a pack that the disk has no room for even then.
    std::error_code ec;
    const uint64_t surplus = total > cache.max_bytes ? total - cache.max_bytes : 0;
    if (const fs::space_info space = fs::space(cache.folder, ec); ec || space.available + surplus <= 2 * bytes) {
        return false;
    }
    for (const Known & pack : packs) {
        if (total <= cache.max_bytes) {
            break;
        }
        std::error_code failed;
        fs::remove(pack.path, failed); // who has it mapped keeps it
        total -= failed ? 0 : pack.bytes;
    }
    const fs::space_info space = fs::space(cache.folder, ec);
    return total <= cache.max_bytes && !ec && space.available > 2 * bytes;
}

} // namespace

std::string PackCache::path_of(const Fingerprint & model, const char * kernels) const {
    return (fs::path(folder) / (to_text(model) + "-" + kernels + "-" + std::to_string(kernels::layout_version) + ".pack")).string();
}

kernels::StoredPack PackCache::find(const Fingerprint & model, const char * kernels, const std::atomic<bool> & cancel) const {
    kernels::StoredPack pack;
#ifndef _WIN32
    if (!enabled()) {
        return pack;
    }
    const std::string path = path_of(model, kernels);
    const File file(open_trusted(path), std::fclose);
    Head head;
    struct stat status;
    if (!file && errno == EPERM) {
        log_line(LogLevel::warn, path + ": is not used, because another user may have written it; remove it, or name another folder");
    }
    if (!file || fstat(fileno(file.get()), &status) != 0 ||
        read_head(file.get(), static_cast<uint64_t>(status.st_size), head, pack.entries).state != PackState::whole ||
        !std::equal(model.begin(), model.end(), head.model)) {
        return {};
    }
    if (verify && !data_is_whole(file.get(), head, nullptr, cancel)) {
        if (!cancel) {
            log_line(LogLevel::warn, path + ": the packed weights are not those that were written; they are packed again");
        }
        return {};
    }
    pack.memory.reset(kernels::PackedMemory::map(fileno(file.get()), head.data_offset, head.data_bytes));
    futimens(fileno(file.get()), nullptr); // used now; may be denied
#endif
    return pack;
}

Result<bool> PackCache::store(const Fingerprint & model, const char * kernels, const kernels::PackedWeights & weights, const std::atomic<bool> & cancel) const {
    constexpr size_t chunk_bytes = 4 << 20;
    const std::string table = table_of(weights.entries);
    Head head{};
    std::memcpy(head.magic, magic, sizeof(magic));
    head.file_version = file_version;
    head.layout_version = kernels::layout_version;
    std::copy(model.begin(), model.end(), head.model);
    head.table_bytes = table.size();
    head.data_offset = (sizeof(head) + table.size() + data_alignment - 1) / data_alignment * data_alignment;
    head.data_bytes = weights.memory->bytes();
    std::error_code ec;
    ec = make_private_folders(folder);
    if (!enabled() || head.data_bytes < least_bytes || table.size() > most_table_bytes || !make_room(*this, head.data_offset + head.data_bytes)) {
        return false;
    }
    const std::string path = path_of(model, kernels);
    PartialFile file(path, PartialFile::Readers::owner);
    if (!file.get()) {
        return io_error(path);
    }
    const std::vector<char> nothing(head.data_offset);
    if (!file.write(nothing.data(), nothing.size())) {
        return io_error(path);
    }
    Hash128 hash;
    for (uint64_t at = 0; at < head.data_bytes;) {
        if (cancel) {
            return Error{ErrorCode::aborted, "writing a pack was aborted"};
        }
        const auto n = static_cast<size_t>(std::min<uint64_t>(chunk_bytes, head.data_bytes - at));
        hash.add(weights.memory->data() + at, n);
        if (!file.write(weights.memory->data() + at, n)) {
            return io_error(path);
        }
        at += n;
    }
    const auto data_hash = hash.value();
    std::copy(data_hash.begin(), data_hash.end(), head.data_hash);
    const auto head_hash = hash_of(head, table);
    std::copy(head_hash.begin(), head_hash.end(), head.head_hash);
    std::rewind(file.get());
    if (!file.write(&head, sizeof(head)) || !file.write(table.data(), table.size()) || !file.commit()) {
        return io_error(path);
    }
    return true;
}

Result<PackHealth> verify_pack(const std::string & path, const std::function<void(double)> & progress, const std::atomic<bool> & cancel) {
    std::error_code failed;
    if (const fs::file_status there = fs::status(path, failed); fs::exists(there) && !fs::is_regular_file(there)) { // opening a pipe would wait for its other end
        return Error{ErrorCode::io, path + ": no regular file", {{"path", path}}};
    }
    const File file(std::fopen(path.c_str(), "rb"), std::fclose);
    const uint64_t bytes = fs::file_size(path, failed);
    if (!file || failed) {
        return io_error(path);
    }
    Head head;
    std::vector<kernels::PackedEntry> entries;
    PackHealth health = read_head(file.get(), bytes, head, entries);
    if (health.state != PackState::whole) {
        return health;
    }
    if (!fs::path(path).filename().string().starts_with(to_text({head.model[0], head.model[1]}))) {
        return PackHealth{PackState::damaged, "it stands under the name of another model's pack"};
    }
    const bool whole = data_is_whole(file.get(), head, progress, cancel);
    if (cancel) {
        return Error{ErrorCode::aborted, "verifying a pack was aborted"};
    }
    return whole ? health : PackHealth{PackState::damaged, "the weights are not those that were written"};
}

} // namespace ternion
