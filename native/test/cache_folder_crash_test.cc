// Processes that open one folder of evicted state at once, use it, and are killed at any moment: no slot has two living owners, and
// no whole file is lost, damaged or there twice. POSIX only; a filesystem without locks needs Linux to be made up.
#include "check.h"
#include "snapshots.h"

#include "engine/cache_folder.h"

#ifndef _WIN32

#include "processes.h"

#include <atomic>
#include <chrono>
#include <map>
#include <sys/mman.h>
#include <thread>

#ifdef __linux__
#include <cerrno>
#include <cstddef>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

using namespace snapshots;

namespace {

constexpr size_t most_files = 20000;

/// What the processes know of each file, by the number that it was made from. Between two of its steps its owner may die, so that
/// nobody knows whether the next one was done.
enum class Step : int { none, writing, written, removing, removed };

struct Shared {
    std::atomic<uint64_t> next;
    std::atomic<int> found_wrong; // a line of this file
    std::atomic<Step> steps[most_files];
};

Snapshot file_of(uint64_t number) {
    return sample(number, number % 50, number * 7919 % 60000);
}

/// The number of a file whose every byte is right; most_files if one is not.
uint64_t number_of(CacheFolder & folder, const std::string & name) {
    const auto snapshot = folder.read(name);
    if (!snapshot) {
        return most_files;
    }
    const uint64_t number = std::stoull(snapshot->text.substr(7));
    return number < most_files && same(*snapshot, file_of(number)) ? number : most_files;
}

#define SHARED_CHECK(condition)             \
    do {                                    \
        if (!(condition)) {                 \
            shared.found_wrong = __LINE__;  \
            _exit(1);                       \
        }                                   \
    } while (false)

/// One process: opens, checks what it found, writes, reads and removes until it is killed or has done enough.
void work(Shared & shared, const std::string & path, int claims, uint64_t seed) {
    std::mt19937_64 random(seed);
    auto opened = CacheFolder::open(path, settings);
    SHARED_CHECK(opened);
    CacheFolder & folder = **opened;
    // A second lock of another kind on the slot's number. It is given back before the slot's own, by the system too: it closes files
    // in the order of their descriptors.
    struct flock claim = {};
    claim.l_type = F_WRLCK;
    claim.l_start = std::stol(fs::path(folder.path()).filename().string());
    claim.l_len = 1;
    SHARED_CHECK(fcntl(claims, F_SETLK, &claim) == 0);

    std::map<std::string, uint64_t> files;
    for (const auto & entry : folder.take_entries()) {
        const uint64_t number = number_of(folder, entry.name);
        SHARED_CHECK(number < most_files && shared.steps[number] != Step::none && shared.steps[number] != Step::removed);
        SHARED_CHECK(files.emplace(entry.name, number).second);
        shared.steps[number] = Step::written;
    }
    for (int i = 0; i < 30; ++i) {
        const uint64_t number = shared.next++;
        SHARED_CHECK(number < most_files);
        const std::string name = folder.new_name();
        shared.steps[number] = Step::writing;
        SHARED_CHECK(folder.write(name, file_of(number)));
        shared.steps[number] = Step::written;
        SHARED_CHECK(files.emplace(name, number).second);
        auto it = files.begin();
        std::advance(it, random() % files.size());
        SHARED_CHECK(number_of(folder, it->first) == it->second);
        if (files.size() > 5) {
            shared.steps[it->second] = Step::removing;
            folder.remove(it->first);
            shared.steps[it->second] = Step::removed;
            files.erase(it);
        }
    }
    claim.l_type = F_UNLCK;
    SHARED_CHECK(fcntl(claims, F_SETLK, &claim) == 0);
}

void nothing_is_lost() {
    const Scratch scratch;
    const std::string path = scratch / "folder";
    void * const memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    Shared & shared = *new (memory) Shared{};
    // Opened before the locks of the slots, so its descriptor is the smaller one.
    const int claims = open((scratch / "claims").c_str(), O_RDWR | O_CREAT, 0600);
    CHECK(claims >= 0);
    std::mt19937_64 random(11);
    std::vector<Child> children;
    int ended_by_themselves = 0;
    for (uint64_t i = 0; i < 120; ++i) {
        children.emplace_back([&](Child::Said &) { work(shared, path, claims, i); });
        if (children.size() == 6) { // one that is drawn dies now, unless it has ended; one in four may end by itself
            const size_t victim = random() % children.size();
            std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
            if (random() % 4 == 0) {
                ended_by_themselves += children[victim].wait() == 0;
            }
            children[victim].kill();
            std::swap(children[victim], children.back());
            children.pop_back();
        }
    }
    children.clear();
    CHECK(ended_by_themselves > 0);
    CHECK(shared.found_wrong == 0);
    if (shared.found_wrong != 0) {
        std::fprintf(stderr, "line %d found something wrong\n", shared.found_wrong.load());
    }

    const auto last = CacheFolder::open(path, settings);
    CHECK(last);
    std::map<uint64_t, int> found;
    for (const auto & entry : (*last)->take_entries()) {
        found[number_of(**last, entry.name)]++;
    }
    CHECK(!found.contains(most_files));
    size_t written = 0;
    for (uint64_t number = 0; number < std::min<uint64_t>(shared.next, most_files); ++number) {
        const Step step = shared.steps[number];
        const int times = found.contains(number) ? found[number] : 0;
        CHECK(times <= 1);
        CHECK(step != Step::written || times == 1);
        CHECK((step != Step::removed && step != Step::none) || times == 0);
        written += step == Step::written;
    }
    CHECK(written > 5 && shared.next > 200);
    CHECK(names_in(path) == std::vector<std::string>{"0"});
    CHECK(names_in((*last)->path()).size() == found.size() + 1);
    close(claims);
    munmap(memory, sizeof(Shared));
}

#ifdef __linux__
// The system call fails as it does where there are no locks.
void a_filesystem_without_locks() {
    const Scratch scratch;
    Child child([&](Child::Said & said) {
        sock_filter program[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_flock, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOLCK),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        const sock_fprog filter{4, program};
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
            said.say('-'); // not possible here
            return;
        }
        const auto folder = CacheFolder::open(scratch.path().string(), settings);
        said.say(!folder && folder.error().code == ErrorCode::io && folder.error().message.find("cannot be locked") != std::string::npos ? 'y' : 'n');
    });
    const int heard = child.hear();
    CHECK(heard == 'y' || heard == '-');
    if (heard == '-') {
        std::fprintf(stderr, "no seccomp here: a filesystem without locks was not tried\n");
    }
}
#endif

} // namespace

int main() {
    nothing_is_lost();
#ifdef __linux__
    a_filesystem_without_locks();
#endif
    return finish_tests();
}

#else

int main() {
    return 0;
}

#endif
