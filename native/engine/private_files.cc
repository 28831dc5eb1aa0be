#include "private_files.h"

#include <cerrno>
#include <filesystem>

#ifndef _WIN32
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace ternion {

namespace fs = std::filesystem;

#ifdef _WIN32

// A user's folders are private there unless somebody chose otherwise.
std::error_code make_private_folders(const std::string & folder) {
    std::error_code failed;
    fs::create_directories(folder, failed);
    return failed;
}

FILE * create_file(const std::string & path, bool) { return std::fopen(path.c_str(), "wb"); }
FILE * open_trusted(const std::string & path) { return std::fopen(path.c_str(), "rb"); }
std::string why_others_may_replace(const std::string &) { return ""; }

#else

std::error_code make_private_folders(const std::string & folder) {
    fs::path made;
    for (const fs::path & part : fs::path(folder)) {
        made /= part;
        if (mkdir(made.c_str(), 0700) == 0 || errno == EEXIST) {
            continue;
        }
        const std::error_code failed(errno, std::generic_category());
        std::error_code ignored;
        if (!fs::is_directory(made, ignored)) { // the root of a read-only filesystem is there and cannot be made
            return failed;
        }
    }
    std::error_code failed;
    if (!fs::is_directory(folder, failed)) {
        return failed ? failed : std::make_error_code(std::errc::not_a_directory);
    }
    return {};
}

FILE * create_file(const std::string & path, bool secret) {
    struct stat there;
    if (lstat(path.c_str(), &there) == 0 && (S_ISREG(there.st_mode) || S_ISLNK(there.st_mode))) {
        unlink(path.c_str());
    }
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, secret ? 0600 : 0666);
    if (fd < 0) {
        return nullptr;
    }
    FILE * file = fdopen(fd, "wb");
    if (!file) {
        const int why = errno;
        close(fd);
        unlink(path.c_str());
        errno = why;
    }
    return file;
}

FILE * open_trusted(const std::string & path) {
    const int fd = open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return nullptr;
    }
    struct stat status;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && (status.st_uid == geteuid() || status.st_uid == 0) && (status.st_mode & S_IWOTH) == 0) {
        if (FILE * file = fdopen(fd, "rb")) {
            return file;
        }
    } else {
        errno = EPERM;
    }
    const int why = errno;
    close(fd);
    errno = why;
    return nullptr;
}

std::string why_others_may_replace(const std::string & folder) {
    struct stat status;
    if (stat(folder.c_str(), &status) == 0 && status.st_uid != geteuid() && status.st_uid != 0) {
        return "belongs to another user (" + std::to_string(status.st_uid) + ")";
    }
    // By its name, whose links others may lay anew, and by where those lead now.
    std::error_code failed;
    for (fs::path place : {fs::absolute(folder, failed).lexically_normal(), fs::weakly_canonical(folder, failed)}) {
        for (bool above = true; above; above = place != place.parent_path(), place = place.parent_path()) {
            if (stat(place.c_str(), &status) == 0 && (status.st_mode & S_IWOTH) != 0 && (status.st_mode & S_ISVTX) == 0) {
                return "everybody may write to " + place.string();
            }
        }
    }
    return "";
}

#endif

} // namespace ternion
