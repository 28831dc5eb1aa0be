// What the store of evicted state does with room, holders and time: its I/O thread is real, the engine thread is this one, which
// takes its tasks when the test says so.
#include "check.h"
#include "snapshots.h"

#include "engine/state_store.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>

using namespace snapshots;

namespace {

/// The engine's queue. What was not run when it goes away is dropped, as in an engine that has ended.
class Queue {
  public:
    void post(StateStore::Task task) {
        std::lock_guard lock(mutex_);
        tasks_.push_back(std::move(task));
        there_.notify_one();
    }
    /// Runs what is posted until `done`. False: that took too long.
    template <typename Done>
    bool run_until(Done done) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (!done()) {
            std::unique_lock lock(mutex_);
            if (!there_.wait_until(lock, end, [&] { return !tasks_.empty(); })) {
                return false;
            }
            const auto task = std::move(tasks_.front());
            tasks_.pop_front();
            lock.unlock();
            task();
        }
        return true;
    }

    void clear() {
        std::lock_guard lock(mutex_);
        tasks_.clear();
    }

  private:
    std::mutex mutex_;
    std::condition_variable there_;
    std::deque<StateStore::Task> tasks_;
};

Snapshot state_of(uint64_t seed, size_t tokens = 100) {
    Snapshot snapshot = sample(seed, tokens, 10'000);
    snapshot.first = 0;
    return snapshot;
}

uint64_t bytes_of(const Snapshot & snapshot) {
    return encoded_bytes(snapshot, snapshot.state.size);
}

const uint64_t each = bytes_of(state_of(10)) + 64;

std::unique_ptr<StateStore> open(Queue & queue, const Scratch & scratch, uint64_t ram, uint64_t disk) {
    auto folder = CacheFolder::open(scratch.path().string(), settings);
    CHECK(folder);
    return std::make_unique<StateStore>(StateStore::Budget{ram, disk}, std::move(*folder), [&queue](StateStore::Task task) { queue.post(std::move(task)); });
}

size_t files(const Scratch & scratch) {
    size_t n = 0;
    for (const auto & file : fs::recursive_directory_iterator(scratch.path())) {
        n += file.path().extension() == ".ternion-state";
    }
    return n;
}

// All moved on to the disk, in order of use; nothing is more than its budget; what has no room goes, and is counted.
void test_tiers() {
    const Scratch scratch;
    Queue queue;
    const auto store = open(queue, scratch, 2 * each, 3 * each);
    std::vector<StateStore::EntryPtr> entries;
    for (uint64_t i = 10; i < 17; ++i) {
        entries.push_back(store->put(state_of(i)));
        CHECK(entries.back());
        CHECK(store->counts().ram_bytes <= 2 * each && store->counts().disk_bytes <= 3 * each);
        CHECK(queue.run_until([&] { return store->counts().writing_bytes == 0; }));
    }
    CHECK(store->counts().ram_entries == 2 && store->counts().disk_entries == 3 && store->counts().dropped == 2 && store->counts().written == 5);
    CHECK(store->gone(entries[0]) && store->gone(entries[1]) && store->on_disk(entries[2]) && store->on_disk(entries[4]));
    CHECK(!store->state(entries[2]) && store->state(entries[5]));
    bool told = false;
    store->fetch(entries[2], [&] { told = true; });
    CHECK(queue.run_until([&] { return told; }));
    CHECK(store->state(entries[2]) && same(*store->state(entries[2]), state_of(12)));
    store->cool_all();
    CHECK(!store->state(entries[2]));
    for (const auto & entry : entries) {
        store->release(entry); // those that are gone, too
    }
    CHECK(store->counts().ram_bytes == 0 && store->counts().disk_bytes == 0 && store->counts().ram_entries == 0 && store->counts().disk_entries == 0);
    store->stop();
    CHECK(files(scratch) == 0);
}

// Held twice, released once: there. What is released while it is written, or read, is removed behind that.
void test_holders() {
    const Scratch scratch;
    Queue queue;
    const auto store = open(queue, scratch, 0, 10 * each);
    const auto twice = store->put(state_of(20));
    store->hold(twice);
    store->release(twice);
    CHECK(!store->gone(twice));
    const auto written = store->put(state_of(21));
    store->release(written);
    CHECK(store->gone(written) && store->match(state_of(21).tokens).empty());
    CHECK(queue.run_until([&] { return store->counts().writing_bytes == 0; }));
    CHECK(store->on_disk(twice) && store->counts().disk_bytes == twice->bytes && store->counts().disk_entries == 1);
    int told = 0;
    store->fetch(twice, [&] { ++told; });
    store->fetch(twice, [&] { ++told; });
    store->release(twice);
    CHECK(queue.run_until([&] { return told == 2; }));
    CHECK(store->gone(twice) && store->counts().disk_bytes == 0 && store->counts().errors == 0);
    store->stop();
    CHECK(files(scratch) == 0);
}

// A disk that is slower than what is to be written: what is not written yet cannot make room, and nothing goes for it in vain.
void test_room_that_cannot_be_made() {
    const Scratch scratch;
    Queue queue;
    const auto store = open(queue, scratch, 0, 3 * each);
    const auto there = store->put(state_of(30));
    CHECK(queue.run_until([&] { return store->counts().writing_bytes == 0; }));
    const auto a = store->put(state_of(31)), b = store->put(state_of(32)); // not known as written until the queue runs
    CHECK(store->counts().writing_bytes > each);
    CHECK(a && b && store->on_disk(there));
    const auto large = store->put(state_of(33, 100 + static_cast<size_t>(each) / 4)); // two of them large
    CHECK(!large && store->counts().dropped == 1);
    CHECK(store->on_disk(there));
}

// Requests that wait for a file when the model is disposed go with the store, though they hold what they wait for.
void test_those_who_wait_at_the_end() {
    const Scratch scratch;
    Queue queue;
    auto store = open(queue, scratch, 0, 3 * each);
    struct Waiter {
        StateStore::EntryPtr holds;
    };
    auto waiter = std::make_shared<Waiter>();
    waiter->holds = store->put(state_of(40));
    CHECK(queue.run_until([&] { return store->counts().writing_bytes == 0; }));
    const std::weak_ptr<Waiter> left = waiter;
    store->fetch(waiter->holds, [waiter] {});
    waiter.reset();
    store->stop();
    queue.clear();
    store.reset();
    CHECK(left.expired());
}

// A conversation of an earlier process is not lost because another one began like it; it is once its own went on and then let go.
void test_found_by_a_beginning() {
    const Scratch scratch;
    Queue queue;
    {
        const auto store = open(queue, scratch, 0, 3 * each);
        store->put(state_of(50));
        CHECK(queue.run_until([&] { return store->counts().writing_bytes == 0; }));
    }
    const auto store = open(queue, scratch, 0, 3 * each);
    const auto tokens = state_of(50).tokens;
    auto found = store->match(PrefixTree::Tokens(tokens).first(50));
    CHECK(found.size() == 1 && found[0].length == 50);
    store->hold(found[0].entry);
    store->release(found[0].entry);
    CHECK(!store->gone(found[0].entry) && store->counts().disk_entries == 1 && store->match(tokens).size() == 1);
    store->hold(found[0].entry);
    store->hold(found[0].entry);
    store->claim(found[0].entry);
    store->release(found[0].entry);
    CHECK(!store->gone(found[0].entry));
    store->release(found[0].entry);
    CHECK(store->gone(found[0].entry) && store->counts().disk_bytes == 0);
    store->stop();
    CHECK(files(scratch) == 0);
}

// The oldest go until the rest fits.
void test_smaller_budget() {
    const Scratch scratch;
    Queue queue;
    {
        const auto store = open(queue, scratch, 0, 5 * each);
        for (uint64_t i = 60; i < 65; ++i) {
            store->put(state_of(i));
            CHECK(queue.run_until([&] { return store->counts().writing_bytes == 0; }));
        }
        CHECK(store->counts().disk_entries == 5);
    }
    CHECK(files(scratch) == 5);
    const auto store = open(queue, scratch, 0, 2 * each);
    CHECK(store->counts().disk_entries == 2 && store->counts().disk_bytes <= 2 * each && store->counts().dropped == 0);
    store->stop();
    CHECK(files(scratch) == 2);
}

} // namespace

int main() {
    test_tiers();
    test_holders();
    test_room_that_cannot_be_made();
    test_those_who_wait_at_the_end();
    test_found_by_a_beginning();
    test_smaller_budget();
    return finish_tests();
}
