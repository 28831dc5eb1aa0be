#include "cache_folder.h"

#include "partial_file.h"
#include "private_files.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <tuple>
#include <utility>

namespace ternion {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view extension = ".ternion-state";
constexpr size_t name_digits = 16;
constexpr int most_slots = 4096;

bool is_name(std::string_view name) {
    return name.size() == name_digits && name.find_first_not_of("0123456789abcdef") == name.npos;
}

/// Whether a file is called as one of ours: `rest` is what follows its name and extension.
bool is_ours(std::string_view file, std::string_view & rest) {
    if (!is_name(file.substr(0, name_digits)) || !file.substr(name_digits).starts_with(extension)) {
        return false;
    }
    rest = file.substr(name_digits + extension.size());
    return rest.empty() || (rest.starts_with(".") && rest.ends_with(".partial"));
}

bool is_slot(std::string_view name) {
    return name == "0" || (!name.empty() && name.size() < 10 && name[0] != '0' && name.find_first_not_of("0123456789") == name.npos);
}

/// Of what is in a folder, what is of this type itself, not by way of a link.
std::vector<fs::path> listed(const fs::path & folder, fs::file_type type) {
    std::vector<fs::path> paths;
    std::error_code failed;
    for (fs::directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed)) {
        std::error_code gone;
        if (it->symlink_status(gone).type() == type) {
            paths.push_back(it->path());
        }
    }
    return paths;
}

bool is_file(const std::string & path) {
    std::error_code failed;
    return fs::is_regular_file(fs::symlink_status(path, failed));
}

} // namespace

struct CacheFolder::Found {
    fs::path path;
    fs::file_time_type used;
    Entry entry;
};

Result<std::unique_ptr<CacheFolder>> CacheFolder::open(const std::string & folder, const std::vector<Setting> & settings) {
    if (const std::error_code failed = make_private_folders(folder)) {
        errno = failed.value();
        return io_error(folder);
    }
    if (const std::string why = why_others_may_replace(folder); !why.empty()) {
        return Error{ErrorCode::io, folder + ": " + why + ", and so others can replace the conversations that are kept in it; name another folder, or take the permission away (chmod o-w, or +t for a folder that all share)", {{"path", folder}}};
    }
    for (int slot = 0; slot < most_slots; ++slot) {
        auto lock = FolderLock::take((fs::path(folder) / std::to_string(slot)).string(), FolderLock::Absent::make);
        if (!lock) {
            return std::move(lock.error());
        }
        if (!*lock) {
            continue;
        }
        if (auto written = (*lock)->sign(); !written) {
            return std::move(written.error());
        }
        std::unique_ptr<CacheFolder> cache(new CacheFolder(std::move(**lock)));
        cache->collect(folder, settings);
        return cache;
    }
    return Error{ErrorCode::io, folder + ": all of its " + std::to_string(most_slots) + " slots are held; name another folder", {{"path", folder}}};
}

/// What can be used of a slot whose lock we hold; what cannot is removed. Other settings mean another build or KV type, since a model
/// has a folder of its own. A file that cannot be read stays, and so does what is not ours.
std::vector<CacheFolder::Found> CacheFolder::sweep(const std::string & slot, const std::vector<Setting> & settings) {
    std::vector<Found> found;
    for (const fs::path & path : listed(slot, fs::file_type::regular)) {
        const std::string name = path.filename().string();
        std::string_view rest;
        if (!is_ours(name, rest)) {
            continue;
        }
        std::error_code failed;
        if (!rest.empty()) {
            fs::remove(path, failed);
            continue;
        }
        auto head = load_snapshot_head(path.string(), WrittenBy::self);
        if (head && check_settings(head->settings, settings)) {
            std::error_code gone;
            const uint64_t bytes = fs::file_size(path, failed);
            const auto used = fs::last_write_time(path, gone);
            if (!failed && !gone) {
                found.push_back({path, used, {name.substr(0, name_digits), bytes, std::move(*head)}});
            }
        } else if (head || head.error().code != ErrorCode::io) {
            fs::remove(path, failed);
        }
    }
    return found;
}

/// Puts all that is left of dead processes into our slot.
void CacheFolder::collect(const std::string & folder, const std::vector<Setting> & settings) {
    std::error_code ended;
    for (fs::directory_iterator it(path(), ended), end; !ended && it != end; it.increment(ended)) {
        taken_.insert(it->path().filename().string().substr(0, name_digits));
    }
    std::vector<Found> all = sweep(path(), settings);
    for (const fs::path & slot : listed(folder, fs::file_type::directory)) {
        if (!is_slot(slot.filename().string()) || slot.filename() == fs::path(path()).filename()) {
            continue;
        }
        auto lock = FolderLock::take(slot.string(), FolderLock::Absent::leave);
        if (!lock || !*lock) {
            continue;
        }
        for (Found & found : sweep(slot.string(), settings)) {
            std::error_code failed;
            found.entry.name = new_name();
            fs::rename(found.path, file(found.entry.name), failed);
            if (!failed) {
                all.push_back(std::move(found));
            }
        }
        (*lock)->remove_folder();
    }
    std::sort(all.begin(), all.end(), [](const Found & a, const Found & b) {
        return std::tie(a.used, a.entry.name) < std::tie(b.used, b.entry.name);
    });
    for (Found & found : all) {
        entries_.push_back(std::move(found.entry));
    }
}

std::vector<CacheFolder::Entry> CacheFolder::take_entries() {
    return std::exchange(entries_, {});
}

std::string CacheFolder::new_name() {
    char name[name_digits + 1];
    do {
        std::snprintf(name, sizeof(name), "%016llx", static_cast<unsigned long long>(next_name_++));
    } while (taken_.contains(name));
    return name;
}

std::string CacheFolder::file(const std::string & name) const {
    return (fs::path(path()) / (name + std::string(extension))).string();
}

Result<bool> CacheFolder::write(const std::string & name, const Snapshot & snapshot) {
    return save_snapshot(snapshot, file(name));
}

Result<Snapshot> CacheFolder::read(const std::string & name) {
    const std::string path = file(name);
    std::error_code failed;
    if (const fs::file_status there = fs::symlink_status(path, failed); fs::exists(there) && !fs::is_regular_file(there)) {
        return Error{ErrorCode::io, path + ": is no file that ternion wrote", {{"path", path}}};
    }
    auto snapshot = load_snapshot(path, WrittenBy::self);
    if (snapshot) {
        fs::last_write_time(path, fs::file_time_type::clock::now(), failed);
    }
    return snapshot;
}

void CacheFolder::remove(const std::string & name) {
    if (is_file(file(name))) {
        std::error_code failed;
        fs::remove(file(name), failed);
    }
}

} // namespace ternion
