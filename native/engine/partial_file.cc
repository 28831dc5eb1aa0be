#include "partial_file.h"

#include "private_files.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <random>
#include <utility>

#ifndef _WIN32
#include <unistd.h>
#endif

namespace ternion {

namespace fs = std::filesystem;

namespace {

/// A name beside `path` that nobody else has: processes may share a folder but not a machine, where they have the same numbers.
std::string own_name(const std::string & path) {
    std::random_device random;
    char digits[17];
    std::snprintf(digits, sizeof(digits), "%08x%08x", static_cast<unsigned>(random()), static_cast<unsigned>(random()));
    return path + "." + digits + ".partial";
}

} // namespace

PartialFile::PartialFile(std::string path, Readers readers) : final_(std::move(path)), partial_(own_name(final_)) {
    std::error_code ignored;
    const fs::file_status there = fs::status(final_, ignored);
    if (fs::exists(there) && !fs::is_regular_file(there)) { // renaming would put a file in a device's place
        errno = fs::is_directory(there) ? EISDIR : EEXIST;
        return;
    }
    file_ = create_file(partial_, readers == Readers::owner);
    opened_ = file_ != nullptr;
}

PartialFile::~PartialFile() {
    if (file_) {
        std::fclose(file_);
    }
    if (!committed_ && opened_) {
        std::error_code ignored;
        fs::remove(partial_, ignored);
    }
}

bool PartialFile::extend(uint64_t bytes) {
    if (std::fflush(file_) != 0) {
        return false;
    }
    std::error_code failed;
    fs::resize_file(partial_, bytes, failed);
    errno = failed.value();
    return !failed;
}

bool PartialFile::commit() {
    bool ok = std::fflush(file_) == 0;
#ifndef _WIN32
    ok = ok && fsync(fileno(file_)) == 0;
#endif
    ok = std::fclose(std::exchange(file_, nullptr)) == 0 && ok;
    if (!ok) {
        return false;
    }
    std::error_code failed;
    fs::rename(partial_, final_, failed);
    committed_ = !failed;
    errno = failed.value();
    return committed_;
}

Error io_error(const std::string & path) {
    return {ErrorCode::io, path + ": " + std::strerror(errno), {{"path", path}}};
}

} // namespace ternion
