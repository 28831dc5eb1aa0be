// State that was moved out of memory, as snapshots in a folder (docs/snapshot.md has its layout).
#pragma once

#include "error.h"
#include "folder_lock.h"
#include "snapshot.h"

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace ternion {

/// Disk tier of evicted state: files that only this process touches. open() on any thread; afterwards one I/O thread.
class CacheFolder {
  public:
    struct Entry {
        std::string name;
        uint64_t bytes; // of the file
        SnapshotHead head;
    };

    /// Makes `folder`/<n>/ for the first n >= 0 that no living process holds, takes its lock, removes what a write left unfinished,
    /// what has no whole head and what has other settings, and adopts the files of the slots that no living process holds any more.
    /// io with path if the folder cannot be made, locked or written to.
    static Result<std::unique_ptr<CacheFolder>> open(const std::string & folder, const std::vector<Setting> & settings);
    ~CacheFolder() = default; // gives the lock back; files stay

    /// What was found by open(); oldest use first, as far as the clock can be trusted.
    std::vector<Entry> take_entries();
    /// Unique in the folder. Any thread, one at a time: the disk is not asked.
    std::string new_name();
    /// Whole and synced, or absent. io.
    Result<bool> write(const std::string & name, const Snapshot & snapshot);
    /// Touches its time of use. io, state_corrupt, state_mismatch (of the format; settings were checked by open()).
    Result<Snapshot> read(const std::string & name);
    /// Nothing happens if it is not there.
    void remove(const std::string & name);
    /// Of this process's slot.
    const std::string & path() const { return lock_.folder(); }

  private:
    struct Found;

    explicit CacheFolder(FolderLock lock) : lock_(std::move(lock)) {}
    static std::vector<Found> sweep(const std::string & slot, const std::vector<Setting> & settings);
    void collect(const std::string & folder, const std::vector<Setting> & settings);
    std::string file(const std::string & name) const;

    FolderLock lock_;
    std::vector<Entry> entries_;
    std::set<std::string> taken_; // names that stood in the slot when it was taken
    uint64_t next_name_ = 0;
};

} // namespace ternion
