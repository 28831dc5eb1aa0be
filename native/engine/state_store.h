// Where state goes that has no cells any more: host memory, then disk, each with a budget in bytes.
#pragma once

#include "cache_folder.h"
#include "prefix_tree.h"
#include "snapshot.h"
#include "worker.h"

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace ternion {

/// Engine thread, except its construction. Files are read, written and removed on a thread of its own: nothing here waits for a
/// disk. An entry lives as long as somebody holds it, one of an earlier process until somebody has claimed it and let it go, and
/// neither longer than there is room: what is used longest ago goes first, from memory to disk, from disk altogether.
class StateStore {
  public:
    struct Budget {
        uint64_t ram_bytes = 0, disk_bytes = 0; // as snapshots' encoded bytes, which are the files' sizes
    };
    struct Counts {
        uint64_t ram_bytes = 0, ram_entries = 0, disk_bytes = 0, disk_entries = 0;
        uint64_t writing_bytes = 0; // on the way to disk: held in memory beside the budget, at most most_writing_bytes
        uint64_t written = 0, read = 0, dropped = 0, errors = 0;
    };
    enum class Where { ram, writing, disk, gone };
    struct Entry {
        std::vector<llama_token> tokens;
        size_t first = 0;
        uint64_t bytes = 0;

      private:
        friend class StateStore;
        PrefixTree::Holder number = 0;
        Where where = Where::gone;
        std::shared_ptr<const Snapshot> snapshot; // of an entry on disk: only between fetch() and cool()
        std::string file;
        std::vector<std::function<void()>> waiting;
        uint64_t used = 0;
        int holders = 0;
        bool found = false; // of an earlier process, and not claimed yet
    };
    using EntryPtr = std::shared_ptr<Entry>;
    using Task = std::function<void()>;

    /// `folder` is null without a disk budget. `post` runs a task on the engine thread, or drops it if that has ended.
    StateStore(Budget budget, std::unique_ptr<CacheFolder> folder, std::function<void(Task)> post);
    ~StateStore();

    /// Whether a tier is large enough for state of about this size.
    bool takes(uint64_t bytes) const { return bytes <= budget_.ram_bytes || bytes <= budget_.disk_bytes; }
    /// Counts state as dropped that was not worth being read from the device.
    void refuse() { counts_.dropped++; }
    /// Keeps it, held once; null if no tier takes it.
    EntryPtr put(Snapshot snapshot);
    void hold(const EntryPtr & entry);
    /// All of it is its holder's: a conversation of an earlier process goes on.
    void claim(const EntryPtr & entry) { entry->found = false; }
    void release(const EntryPtr & entry);

    struct Match {
        EntryPtr entry;
        size_t length; // tokens from the beginning that agree
    };
    /// Entries that agree with `tokens` beyond where their state begins; longest first.
    std::vector<Match> match(PrefixTree::Tokens tokens) const;

    bool gone(const EntryPtr & entry) const { return entry->where == Where::gone; }
    bool on_disk(const EntryPtr & entry) const { return entry->where == Where::disk; }
    /// Its state if that is in memory, else null: then fetch() it.
    std::shared_ptr<const Snapshot> state(const EntryPtr & entry);
    /// Reads it; `done` when it is in memory, or gone because it cannot be read.
    void fetch(const EntryPtr & entry, Task done);
    /// Its fetched state is not needed any more; of all entries: nobody's is.
    void cool(const EntryPtr & entry);
    void cool_all();

    Counts counts() const { return counts_; }
    Budget budget() const { return budget_; }
    /// Waits for the file at hand; the rest is not written.
    void stop() { io_.stop(); }

    static constexpr uint64_t most_writing_bytes = uint64_t{256} << 20;

  private:
    EntryPtr oldest(Where where) const;
    void add(const EntryPtr & entry);
    void drop(const EntryPtr & entry);
    bool write(const EntryPtr & entry);
    bool make_disk_room(uint64_t bytes);
    void wrote(const EntryPtr & entry, const Result<bool> & result);
    void fetched(const EntryPtr & entry, Result<Snapshot> result);

    const Budget budget_;
    const std::unique_ptr<CacheFolder> folder_; // io_'s thread, once that runs
    const std::function<void(Task)> post_;
    PrefixTree tree_;
    std::map<PrefixTree::Holder, EntryPtr> entries_;
    PrefixTree::Holder next_number_ = 0;
    uint64_t clock_ = 0; // of uses: no time of day, which may go backwards
    std::vector<EntryPtr> warm_; // fetched, and perhaps not cooled yet
    Counts counts_;
    Worker io_{"ternion-cache"};
};

} // namespace ternion
