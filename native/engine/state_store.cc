#include "state_store.h"

#include "log.h"

#include <algorithm>
#include <utility>

namespace ternion {

StateStore::StateStore(Budget budget, std::unique_ptr<CacheFolder> folder, std::function<void(Task)> post)
    : budget_(budget), folder_(std::move(folder)), post_(std::move(post)) {
    if (!folder_) {
        return;
    }
    for (CacheFolder::Entry & file : folder_->take_entries()) { // oldest use first
        auto entry = std::make_shared<Entry>();
        entry->tokens = std::move(file.head.tokens);
        entry->first = file.head.first;
        entry->bytes = file.bytes;
        entry->file = std::move(file.name);
        entry->found = true;
        entry->where = Where::disk;
        counts_.disk_bytes += entry->bytes;
        counts_.disk_entries++;
        add(entry);
    }
    make_disk_room(0);
}

// Who waits may hold what it waits for, and is not told any more.
StateStore::~StateStore() {
    stop();
    for (const auto & [number, entry] : entries_) {
        entry->waiting.clear();
    }
}

void StateStore::add(const EntryPtr & entry) {
    entry->number = next_number_++;
    entry->used = ++clock_;
    entries_.emplace(entry->number, entry);
    const PrefixTree::Tokens tokens = entry->tokens;
    const auto known = tree_.match(tokens);
    const size_t length = known.empty() ? 0 : known.front().length;
    if (length > 0) {
        tree_.share(known.front().holder, entry->number, length);
    }
    tree_.append(entry->number, tokens.subspan(length));
}

StateStore::EntryPtr StateStore::oldest(Where where) const {
    EntryPtr oldest;
    for (const auto & [number, entry] : entries_) {
        if (entry->where == where && (!oldest || entry->used < oldest->used)) {
            oldest = entry;
        }
    }
    return oldest;
}

StateStore::EntryPtr StateStore::put(Snapshot snapshot) {
    auto entry = std::make_shared<Entry>();
    entry->tokens = snapshot.tokens;
    entry->first = snapshot.first;
    entry->bytes = encoded_bytes(snapshot, snapshot.state.size);
    entry->holders = 1;
    entry->snapshot = std::make_shared<const Snapshot>(std::move(snapshot));
    if (entry->bytes <= budget_.ram_bytes) {
        while (counts_.ram_bytes + entry->bytes > budget_.ram_bytes) {
            const EntryPtr moved = oldest(Where::ram);
            counts_.ram_bytes -= moved->bytes;
            counts_.ram_entries--;
            moved->where = Where::gone;
            if (!write(moved)) {
                drop(moved);
            }
        }
        entry->where = Where::ram;
        counts_.ram_bytes += entry->bytes;
        counts_.ram_entries++;
    } else if (!write(entry)) {
        counts_.dropped++;
        return nullptr;
    }
    add(entry);
    return entry;
}

void StateStore::hold(const EntryPtr & entry) {
    entry->holders++;
    entry->used = ++clock_;
}

void StateStore::release(const EntryPtr & entry) {
    if (--entry->holders == 0 && entry->where != Where::gone && !entry->found) {
        drop(entry);
    }
}

// From every tier. A file that is being written, or read, is removed behind that.
void StateStore::drop(const EntryPtr & entry) {
    switch (std::exchange(entry->where, Where::gone)) {
        case Where::ram:
            counts_.ram_bytes -= entry->bytes;
            counts_.ram_entries--;
            break;
        case Where::disk:
            counts_.disk_bytes -= entry->bytes;
            counts_.disk_entries--;
            [[fallthrough]];
        case Where::writing: // wrote() settles the counts
            io_.post([folder = folder_.get(), file = entry->file](bool) { folder->remove(file); });
            break;
        case Where::gone:
            break;
    }
    counts_.dropped += entry->holders > 0;
    tree_.remove(entry->number);
    entries_.erase(entry->number);
    entry->snapshot = nullptr;
    for (const Task & task : std::exchange(entry->waiting, {})) {
        post_(task);
    }
}

bool StateStore::make_disk_room(uint64_t bytes) {
    if (counts_.writing_bytes + bytes > budget_.disk_bytes) { // those cannot give way yet, and nobody shall in vain
        return false;
    }
    while (counts_.disk_bytes + bytes > budget_.disk_bytes) {
        drop(oldest(Where::disk));
    }
    return true;
}

// Of an entry whose state is in memory and that no tier counts. Its bytes count as the disk's from here on, so that the folder
// never holds more than its budget.
bool StateStore::write(const EntryPtr & entry) {
    const bool behind = counts_.writing_bytes > 0 && counts_.writing_bytes + entry->bytes > most_writing_bytes;
    if (!folder_ || behind || entry->bytes > budget_.disk_bytes || !make_disk_room(entry->bytes)) {
        return false;
    }
    counts_.disk_bytes += entry->bytes;
    counts_.disk_entries++;
    counts_.writing_bytes += entry->bytes;
    entry->where = Where::writing;
    entry->file = folder_->new_name();
    io_.post([this, entry, snapshot = entry->snapshot](bool cancelled) {
        auto result = cancelled ? Result<bool>(Error{ErrorCode::aborted, "the model was disposed"}) : folder_->write(entry->file, *snapshot);
        post_([this, entry, result = std::move(result)] { wrote(entry, result); });
    });
    return true;
}

void StateStore::wrote(const EntryPtr & entry, const Result<bool> & result) {
    counts_.writing_bytes -= entry->bytes;
    if (result && entry->where == Where::writing) {
        counts_.written++;
        entry->where = Where::disk;
        entry->snapshot = nullptr;
        return;
    }
    counts_.disk_bytes -= entry->bytes;
    counts_.disk_entries--;
    if (!result) {
        counts_.errors++;
        log_line(LogLevel::warn, "state was not written and will be computed again: " + result.error().message);
        if (entry->where == Where::writing) {
            drop(entry);
        }
    }
}

std::vector<StateStore::Match> StateStore::match(PrefixTree::Tokens tokens) const {
    std::vector<Match> found;
    for (const auto & [number, length] : tree_.match(tokens)) {
        const EntryPtr & entry = entries_.at(number);
        if (length > entry->first) {
            found.push_back({entry, length});
        }
    }
    return found;
}

std::shared_ptr<const Snapshot> StateStore::state(const EntryPtr & entry) {
    entry->used = ++clock_;
    return entry->snapshot;
}

void StateStore::fetch(const EntryPtr & entry, Task done) {
    if (entry->snapshot || entry->where == Where::gone) {
        post_(std::move(done));
        return;
    }
    entry->waiting.push_back(std::move(done));
    if (entry->waiting.size() > 1) {
        return; // is being read
    }
    io_.post([this, entry](bool cancelled) {
        auto result = cancelled ? Result<Snapshot>(Error{ErrorCode::aborted, "the model was disposed"}) : folder_->read(entry->file);
        auto shared = std::make_shared<Result<Snapshot>>(std::move(result));
        post_([this, entry, shared] { fetched(entry, std::move(*shared)); });
    });
}

void StateStore::fetched(const EntryPtr & entry, Result<Snapshot> result) {
    if (entry->where != Where::disk) {
        return; // dropped meanwhile, and those who waited were told
    }
    if (result && result->tokens == entry->tokens && result->first == entry->first) {
        counts_.read++;
        entry->snapshot = std::make_shared<const Snapshot>(std::move(*result));
        warm_.push_back(entry);
        for (const Task & task : std::exchange(entry->waiting, {})) {
            post_(task);
        }
        return;
    }
    counts_.errors++;
    log_line(LogLevel::warn, "state was not read and will be computed again: " + (result ? "it is another file's" : result.error().message));
    drop(entry);
}

void StateStore::cool(const EntryPtr & entry) {
    if (entry->where == Where::disk && entry->waiting.empty()) {
        entry->snapshot = nullptr;
    }
}

void StateStore::cool_all() {
    for (const EntryPtr & entry : std::exchange(warm_, {})) {
        cool(entry);
    }
}

} // namespace ternion
