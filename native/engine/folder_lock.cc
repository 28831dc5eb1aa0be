#include "folder_lock.h"

#include "partial_file.h"

#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <utility>

#ifdef _WIN32
#define NOMINMAX
#include <windows.h>
#else
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace ternion {
namespace {

namespace fs = std::filesystem;

// Each try but the last found a folder that its owner removed just then.
constexpr int most_tries = 1000;

std::string signature() {
    char host[256] = {}, since[32] = {};
    const std::time_t now = std::time(nullptr);
    std::tm utc{};
#ifdef _WIN32
    DWORD size = sizeof(host);
    GetComputerNameA(host, &size);
    gmtime_s(&utc, &now);
    const auto process = GetCurrentProcessId();
#else
    gethostname(host, sizeof(host) - 1);
    gmtime_r(&now, &utc);
    const auto process = getpid();
#endif
    std::strftime(since, sizeof(since), "%Y-%m-%d %H:%M:%S UTC", &utc);
    return "held by process " + std::to_string(process) + " on " + host + " since " + since + "\n";
}

#ifndef _WIN32

class Descriptor {
  public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0) {
            close(fd_);
        }
    }
    Descriptor(const Descriptor &) = delete;
    Descriptor & operator=(const Descriptor &) = delete;
    int get() const { return fd_; }
    int release() { return std::exchange(fd_, -1); }

  private:
    int fd_;
};

/// Of this user: in a folder for all, another's may hold anything.
bool is_own_folder(const std::string & path) {
    struct stat status;
    if (lstat(path.c_str(), &status) != 0) {
        return false;
    }
    errno = 0;
    return S_ISDIR(status.st_mode) && status.st_uid == geteuid();
}

bool stands_under(int fd, const std::string & path) {
    struct stat open, named;
    return fstat(fd, &open) == 0 && lstat(path.c_str(), &named) == 0 && open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

#endif

Error no_locks(const std::string & path) {
    return {ErrorCode::io, path + ": cannot be locked: " + std::strerror(errno) + "; name a folder on a filesystem that has locks", {{"path", path}}};
}

#ifndef _WIN32

/// Files that this process could not trust, though it made them itself.
Error not_ours(const std::string & folder) {
    return {ErrorCode::io, folder + ": what this process makes there belongs to another user, or everybody may write to it, as on some network filesystems; name a folder elsewhere", {{"path", folder}}};
}

#endif

} // namespace

FolderLock::FolderLock(std::string folder, Handle handle) : folder_(std::move(folder)), handle_(handle) {}

FolderLock::FolderLock(FolderLock && other) noexcept : folder_(std::move(other.folder_)), handle_(std::exchange(other.handle_, none)) {}

std::string FolderLock::file() const {
    return (fs::path(folder_) / "lock").string();
}

#ifndef _WIN32

Result<std::optional<FolderLock>> FolderLock::take(const std::string & folder, Absent absent) {
    const std::string path = (fs::path(folder) / "lock").string();
    for (int tries = 0; tries < most_tries; ++tries) {
        const bool made = absent == Absent::make && mkdir(folder.c_str(), 0700) == 0;
        if (absent == Absent::make && !made && errno != EEXIST) {
            return io_error(folder);
        }
        if (!is_own_folder(folder)) {
            if (absent == Absent::make && errno == ENOENT) {
                continue;
            }
            if (made) {
                rmdir(folder.c_str());
                return not_ours(folder);
            }
            return std::optional<FolderLock>();
        }
        Descriptor fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
        if (fd.get() < 0) {
            if (errno == ENOENT && absent == Absent::make) {
                continue;
            }
            if (errno == ENOENT || errno == ELOOP || errno == EISDIR || errno == ENXIO) {
                return std::optional<FolderLock>();
            }
            return io_error(path);
        }
        struct stat status;
        if (fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
            return std::optional<FolderLock>();
        }
        if (status.st_uid != geteuid() || (status.st_mode & S_IWOTH) != 0) {
            return not_ours(folder);
        }
        int locked;
        do {
            locked = flock(fd.get(), LOCK_EX | LOCK_NB);
        } while (locked != 0 && errno == EINTR);
        if (locked != 0) {
            if (errno == EWOULDBLOCK) {
                return std::optional<FolderLock>();
            }
            return no_locks(path);
        }
        // Between the opening and the lock an owner may have removed this file, and another made a new one.
        if (stands_under(fd.get(), path)) {
            return std::optional<FolderLock>(FolderLock(folder, fd.release()));
        }
    }
    errno = EAGAIN;
    return no_locks(path);
}

FolderLock::~FolderLock() {
    if (handle_ != none) {
        flock(handle_, LOCK_UN); // a child that was forked meanwhile has the descriptor, too
        close(handle_);
    }
}

Result<bool> FolderLock::sign() {
    const std::string text = signature();
    if (ftruncate(handle_, 0) != 0) {
        return io_error(file());
    }
    errno = ENOSPC; // unless the system knows better
    if (pwrite(handle_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
        return io_error(file());
    }
    return true;
}

// Who opens the file before it is gone gets the lock after we let go of it, and sees that it no longer stands under its name; who
// comes after that makes a new one, so that the folder is not empty and stays, or makes folder and file anew.
void FolderLock::remove_folder() {
    if (unlink(file().c_str()) == 0) {
        rmdir(folder_.c_str());
    }
}

#else

Result<std::optional<FolderLock>> FolderLock::take(const std::string & folder, Absent absent) {
    const std::string path = (fs::path(folder) / "lock").string();
    std::error_code failed;
    if (absent == Absent::make) {
        fs::create_directory(folder, failed);
        if (std::error_code ignored; failed && !fs::exists(folder, ignored)) {
            return Error{ErrorCode::io, folder + ": " + failed.message(), {{"path", folder}}};
        }
    }
    if (!fs::is_directory(fs::symlink_status(folder, failed))) {
        return std::optional<FolderLock>();
    }
    const HANDLE handle = CreateFileA(path.c_str(), GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, nullptr, OPEN_ALWAYS,
        FILE_ATTRIBUTE_NORMAL | FILE_FLAG_OPEN_REPARSE_POINT, nullptr); // not inherited
    if (handle == INVALID_HANDLE_VALUE) {
        return Error{ErrorCode::io, path + ": cannot be opened (error " + std::to_string(GetLastError()) + ")", {{"path", path}}};
    }
    FolderLock lock(folder, handle);
    OVERLAPPED where{};
    where.OffsetHigh = 1; // a locked byte cannot be read: one behind what people read
    if (LockFileEx(handle, LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &where)) {
        return std::optional<FolderLock>(std::move(lock));
    }
    if (GetLastError() == ERROR_LOCK_VIOLATION || GetLastError() == ERROR_IO_PENDING) {
        return std::optional<FolderLock>();
    }
    errno = ENOLCK;
    return no_locks(path);
}

FolderLock::~FolderLock() {
    if (handle_ != none) {
        CloseHandle(handle_);
    }
}

Result<bool> FolderLock::sign() {
    const std::string text = signature();
    DWORD written = 0;
    SetFilePointer(handle_, 0, nullptr, FILE_BEGIN);
    if (!SetEndOfFile(handle_) || !WriteFile(handle_, text.data(), static_cast<DWORD>(text.size()), &written, nullptr) || written != text.size()) {
        return Error{ErrorCode::io, file() + ": cannot be written (error " + std::to_string(GetLastError()) + ")", {{"path", file()}}};
    }
    return true;
}

void FolderLock::remove_folder() {}

#endif

} // namespace ternion
