// The folder of evicted state: one process per slot, whatever happens to it. What needs processes that die is POSIX only.
#include "check.h"
#include "snapshots.h"

#include "engine/cache_folder.h"
#include "engine/folder_lock.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>

#ifndef _WIN32
#include "processes.h"

#include <csignal>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

using namespace snapshots;

namespace {

using Folder = std::unique_ptr<CacheFolder>;

Folder open_folder(const std::string & path, const std::vector<Setting> & with = settings) {
    auto folder = CacheFolder::open(path, with);
    if (!folder) {
        std::fprintf(stderr, "%s\n", folder.error().message.c_str());
        std::exit(1);
    }
    return std::move(*folder);
}

std::string slot_of(const CacheFolder & folder) {
    return fs::path(folder.path()).filename().string();
}

/// Waits until files made from now on have a later time.
void later() {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

void a_folder() {
    const Scratch scratch;
    const std::string path = scratch / "some/where";
    Folder folder = open_folder(path);
    CHECK(folder->path() == (fs::path(path) / "0").string() && folder->take_entries().empty());
    const std::vector<uint8_t> lock = read_file(fs::path(folder->path()) / "lock");
    CHECK(std::string(lock.begin(), lock.end()).starts_with("held by process "));

    const std::string a = folder->new_name(), b = folder->new_name(), c = folder->new_name();
    CHECK(a != b && b != c && a != c);
    CHECK(folder->write(a, sample(1, 9, 1000)));
    later();
    CHECK(folder->write(b, sample(2, 9, 5000)));
    later();
    CHECK(folder->write(c, sample(3, 9, 100)));
    folder->remove(c);
    folder->remove(c);
    folder->remove("");
    CHECK((names_in(folder->path()) == std::vector<std::string>{a + ".ternion-state", b + ".ternion-state", "lock"}));
    later();
    const auto read = folder->read(a); // so b is the one used longest ago
    CHECK(read && same(*read, sample(1, 9, 1000)));
    const auto gone = folder->read(c);
    CHECK(!gone && gone.error().code == ErrorCode::io);

    folder.reset();
    folder = open_folder(path);
    CHECK(slot_of(*folder) == "0");
    auto entries = folder->take_entries();
    CHECK(entries.size() == 2 && entries[0].name == b && entries[1].name == a && folder->take_entries().empty());
    CHECK(same(entries[0].head, sample(2, 9, 5000)));
    CHECK(entries[0].bytes == encoded_bytes(entries[0].head, 5000));
    for (int i = 0; i < 5; ++i) { // none of those that are there
        const std::string name = folder->new_name();
        CHECK(name != a && name != b);
    }
    folder.reset();
    fs::last_write_time(fs::path(path) / "0" / (a + ".ternion-state"), fs::file_time_type::clock::now() + std::chrono::hours(100000));
    CHECK(open_folder(path)->take_entries().size() == 2); // a clock that was wrong changes the order and nothing else
}

void what_is_of_no_use_goes() {
    const Scratch scratch;
    const auto names = [](int i) { return "000000000000000" + std::to_string(i) + ".ternion-state"; };
    for (const std::string slot : {"0", "7"}) {
        fs::create_directories(scratch / slot);
        const fs::path in = scratch / slot;
        CHECK(save_snapshot(sample(1, 9, 3000), in / names(1)));
        write_file(in / (names(2) + ".partial"), {1, 2, 3});
        write_file(in / (names(3) + ".123-0.partial"), {1, 2, 3});
        std::vector<uint8_t> bytes = encoded(sample(2, 9, 3000));
        bytes[70] ^= 1;
        write_file(in / names(4), bytes);
        bytes[70] ^= 1;
        bytes.resize(bytes.size() - 1);
        write_file(in / names(5), bytes);
        Snapshot other = sample(3, 9, 3000);
        other.settings[2].value = "q8_0";
        CHECK(save_snapshot(other, in / names(6)));
        write_file(in / "0000000000000007.ternion-states", {1}); // not ours: they only look so
        write_file(in / "000000000000000G.ternion-state", {1});
        write_file(in / "0000000000000008.ternion-state.bak", {1});
        write_file(in / "08.ternion-state", {1});
        fs::create_directory(in / names(8));
        fs::create_symlink(in / names(1), in / names(9));
    }
    write_file(scratch / "notes", {1});
    fs::create_directory(scratch / "01");
    CHECK(save_snapshot(sample(4, 9, 10), scratch / ("01/" + names(1))));
    fs::create_directory_symlink(scratch.path() / "01", scratch / "5");

    const Folder folder = open_folder(scratch.path().string());
    CHECK(slot_of(*folder) == "0");
    auto entries = folder->take_entries();
    CHECK(entries.size() == 2); // one of each slot
    for (const auto & entry : entries) {
        const auto read = folder->read(entry.name);
        CHECK(read && same(*read, sample(1, 9, 3000)));
    }
    std::vector<std::string> foreign = {names(8), names(9), "000000000000000G.ternion-state", "0000000000000007.ternion-states",
        "0000000000000008.ternion-state.bak", "08.ternion-state"};
    std::sort(foreign.begin(), foreign.end());
    CHECK(names_in(scratch / "7") == foreign);
    for (const auto & entry : entries) {
        foreign.push_back(entry.name + ".ternion-state");
    }
    foreign.push_back("lock");
    std::sort(foreign.begin(), foreign.end());
    CHECK(names_in(scratch / "0") == foreign);
    CHECK((names_in(scratch.path()) == std::vector<std::string>{"0", "01", "5", "7", "notes"}));
    CHECK(names_in(scratch / "01") == std::vector<std::string>{names(1)});

    const auto link = folder->read("0000000000000009");
    CHECK(!link && link.error().code == ErrorCode::io);
    folder->remove("0000000000000009");
    folder->remove("0000000000000008");
    CHECK(names_in(scratch / "0") == foreign);
}

void slots_of_one_process() {
    const Scratch scratch;
    const std::string path = scratch.path().string();
    Folder a = open_folder(path), b = open_folder(path), c = open_folder(path);
    CHECK(slot_of(*a) == "0" && slot_of(*b) == "1" && slot_of(*c) == "2");
    CHECK(b->write(b->new_name(), sample(1, 9, 100)) && c->write(c->new_name(), sample(2, 9, 100)));
    CHECK(a->take_entries().empty());
    b.reset(); // its file goes to the next that opens, and that one takes its place
    b = open_folder(path);
    CHECK(slot_of(*b) == "1" && b->take_entries().size() == 1);
    a.reset();
    c.reset();
    Folder d = open_folder(path);
    CHECK(slot_of(*d) == "0" && d->take_entries().size() == 1);
    CHECK((names_in(path) == std::vector<std::string>{"0", "1"})); // what was adopted leaves no empty slot

    std::vector<std::thread> threads;
    std::vector<Folder> folders(12);
    for (Folder & folder : folders) {
        threads.emplace_back([&] { folder = open_folder(path); });
    }
    for (std::thread & thread : threads) {
        thread.join();
    }
    std::vector<std::string> slots;
    for (const Folder & folder : folders) {
        slots.push_back(slot_of(*folder));
    }
    std::sort(slots.begin(), slots.end());
    CHECK(std::unique(slots.begin(), slots.end()) == slots.end() && slots.front() != "0" && slots.front() != "1");
}

/// Owners that remove the folder while others are about to take it.
void one_owner_at_a_time() {
    const Scratch scratch;
    const std::string path = scratch / "contended";
    std::atomic<int> owners{0}, taken{0}, wrong{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            for (int tries = 0; tries < 5000; ++tries) {
                auto lock = FolderLock::take(path, FolderLock::Absent::make);
                wrong += !lock;
                if (!lock || !*lock) {
                    continue;
                }
                wrong += owners++ != 0;
                taken++;
                wrong += !fs::exists(fs::path(path) / "lock");
                wrong += --owners != 0;
                (*lock)->remove_folder();
            }
        });
    }
    for (std::thread & thread : threads) {
        thread.join();
    }
    CHECK(wrong == 0);
    CHECK(taken > 100);
}

void folders_that_cannot_be() {
    const Scratch scratch;
    write_file(scratch / "file", {1});
    for (const std::string & path : {scratch / "file", scratch / "file/below", std::string()}) {
        const auto folder = CacheFolder::open(path, settings);
        CHECK(!folder && folder.error().code == ErrorCode::io && !folder.error().details.empty() && folder.error().details[0].key == "path");
    }
    write_file(scratch / "0", {1}); // a file where a slot would be, and a link and a folder where a lock would be
    fs::create_directories(scratch / "1/lock");
    fs::create_directories(scratch / "2");
    fs::create_symlink(scratch / "file", scratch / "2/lock");
    CHECK(slot_of(*open_folder(scratch.path().string())) == "3");
    CHECK(read_file(scratch / "file").size() == 1);
#ifndef _WIN32
    Folder folder = open_folder(scratch / "full");
    const std::string a = folder->new_name(), b = folder->new_name();
    CHECK(folder->write(a, sample(1, 9, 100)));
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit old;
    getrlimit(RLIMIT_FSIZE, &old);
    const rlimit none{0, old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &none);
    const auto unwritten = folder->write(b, sample(2, 9, 100));
    const auto unopened = CacheFolder::open(scratch / "full", settings);
    setrlimit(RLIMIT_FSIZE, &old);
    CHECK(!unwritten && unwritten.error().code == ErrorCode::io);
    CHECK(!unopened && unopened.error().code == ErrorCode::io);
    CHECK((names_in(folder->path()) == std::vector<std::string>{a + ".ternion-state", "lock"}));
#endif
}

#ifndef _WIN32

void what_others_can_have_written() {
    const Scratch scratch;
    const std::string path = scratch.path().string();
    std::string open_to_all, of_another, ours;
    {
        Folder folder = open_folder(path);
        for (std::string * name : {&open_to_all, &of_another, &ours}) {
            *name = folder->new_name();
            CHECK(folder->write(*name, sample(1, 9, 100)));
        }
    }
    const auto file = [&](const std::string & name) { return scratch / ("0/" + name + ".ternion-state"); };
    const bool root = geteuid() == 0; // may give files away
    CHECK(chmod(file(open_to_all).c_str(), 0666) == 0);
    CHECK(!root || chown(file(of_another).c_str(), 12345, 12345) == 0);
    {
        Folder folder = open_folder(path);
        CHECK(slot_of(*folder) == "0" && folder->take_entries().size() == (root ? 1u : 2u));
        CHECK(folder->read(ours) && !folder->read(open_to_all) && (!root || !folder->read(of_another)));
        CHECK(names_in(folder->path()).size() == 4); // they stay
    }
    CHECK(!root || chown((scratch / "0").c_str(), 12345, 12345) == 0);
    CHECK(slot_of(*open_folder(path)) == (root ? "1" : "0"));

    const auto refusal = [&](const std::string & folder) {
        const auto opened = CacheFolder::open(folder, settings);
        return opened ? std::string() : opened.error().message;
    };
    fs::create_directories(scratch / "open/below");
    fs::permissions(scratch / "open", fs::perms::all);
    CHECK(refusal(scratch / "open").find("everybody may write to " + (scratch / "open")) != std::string::npos);
    CHECK(refusal(scratch / "open/below").find("everybody may write to " + (scratch / "open")) != std::string::npos);
    fs::create_directory_symlink(scratch / "open/below", scratch / "link");
    CHECK(refusal(scratch / "link").find("everybody may write to ") != std::string::npos);
    fs::permissions(scratch / "open", fs::perms::all | fs::perms::sticky_bit);
    CHECK(refusal(scratch / "open/below").empty() && refusal(scratch / "link").empty());
    fs::create_directories(scratch / "lock/0");
    write_file(scratch / "lock/0/lock", {1});
    CHECK(chmod((scratch / "lock/0/lock").c_str(), 0666) == 0);
    CHECK(refusal(scratch / "lock").find("everybody may write to it") != std::string::npos && read_file(scratch / "lock/0/lock").size() == 1);
    if (root) {
        fs::create_directories(scratch / "theirs");
        CHECK(chown((scratch / "theirs").c_str(), 12345, 12345) == 0);
        CHECK(refusal(scratch / "theirs").find("belongs to another user (12345)") != std::string::npos);
    }
}

void slots_of_other_processes() {
    const Scratch scratch;
    const std::string path = scratch.path().string();
    Child child([&](Child::Said & said) {
        const Folder folder = open_folder(path);
        const bool ok = slot_of(*folder) == "0" && folder->write(folder->new_name(), sample(1, 9, 100000));
        write_file(fs::path(folder->path()) / "00000000000000aa.ternion-state.1-1.partial", {1});
        said.say(ok ? 'y' : 'n');
        pause();
    });
    CHECK(child.hear() == 'y');
    {
        const Folder second = open_folder(path);
        CHECK(slot_of(*second) == "1" && second->take_entries().empty());
        Child third([&](Child::Said & said) { said.say(slot_of(*open_folder(path)) == "2" ? 'y' : 'n'); }); // has our descriptors, not our locks
        CHECK(third.hear() == 'y');
    }
    child.kill();
    const Folder next = open_folder(path);
    CHECK(slot_of(*next) == "0" && (names_in(path) == std::vector<std::string>{"0"}));
    const auto entries = next->take_entries();
    CHECK(entries.size() == 1);
    if (!entries.empty()) {
        const auto read = next->read(entries[0].name);
        CHECK(read && same(*read, sample(1, 9, 100000)));
    }
    CHECK(names_in(next->path()).size() == 2);
}

// A lock must not outlive its owner in a program that it started, nor a copy of the process hold it.
void locks_are_not_inherited() {
    const Scratch scratch;
    const std::string path = scratch.path().string();
    Folder folder = open_folder(path);
    Child program([](Child::Said & said) {
        said.close_on_exec();
        execl("/bin/sleep", "sleep", "60", nullptr);
    });
    CHECK(program.hear() == Child::closed); // it runs
    Child copy([](Child::Said & said) {
        said.say('y');
        pause();
    });
    CHECK(copy.hear() == 'y');
    folder.reset();
    CHECK(slot_of(*open_folder(path)) == "0");

    Child owner([&](Child::Said & said) {
        const Folder own = open_folder(path);
        Child below([](Child::Said & running) {
            running.close_on_exec();
            execl("/bin/sleep", "sleep", "1", nullptr);
        });
        said.say(below.hear() == Child::closed && slot_of(*own) == "0" ? 'y' : 'n');
        pause();
    });
    CHECK(owner.hear() == 'y');
    owner.kill();
    CHECK(slot_of(*open_folder(path)) == "0");
}

#endif

} // namespace

int main() {
    a_folder();
    what_is_of_no_use_goes();
    slots_of_one_process();
    one_owner_at_a_time();
    folders_that_cannot_be();
#ifndef _WIN32
    what_others_can_have_written();
    slots_of_other_processes();
    locks_are_not_inherited();
#endif
    return finish_tests();
}
