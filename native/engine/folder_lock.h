// A folder that one owner at a time has, in this process or another.
#pragma once

#include "error.h"

#include <optional>
#include <string>

namespace ternion {

/// The file `lock` in a folder, locked by the operating system: when its owner ends, however it ends, the lock is free. What
/// stands in the file (process, host, since when) is for people. Move-only; any thread.
class FolderLock {
  public:
    enum class Absent { make, leave };

    /// Nothing if another holds the lock, if something else than a folder or a file stands in the way, or if the folder is gone and
    /// was to be left so. io: it cannot be made, or its filesystem has no locks.
    static Result<std::optional<FolderLock>> take(const std::string & folder, Absent absent);

    FolderLock(FolderLock && other) noexcept;
    FolderLock & operator=(FolderLock &&) = delete;
    ~FolderLock();

    const std::string & folder() const { return folder_; }

    /// Writes down who holds it. io: the folder cannot be written to.
    Result<bool> sign();
    /// Removes the lock's file, then the folder if nothing else is in it. Not on Windows, where an open file stays.
    void remove_folder();

  private:
#ifdef _WIN32
    using Handle = void *;
    static constexpr Handle none = nullptr;
#else
    using Handle = int;
    static constexpr Handle none = -1;
#endif
    FolderLock(std::string folder, Handle handle);
    std::string file() const;

    std::string folder_;
    Handle handle_ = none;
};

} // namespace ternion
