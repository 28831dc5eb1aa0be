// Snapshots: what was written comes back, and what was not is refused. `snapshot_test --write PATH` writes the file that is kept
// in native/test/data when the format gets a new version.
#include "check.h"
#include "snapshots.h"

#include "engine/checksum.h"
#include "engine/snapshot.h"

#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>

#ifndef _WIN32
#include <csignal>
#include <sys/resource.h>
#include <sys/stat.h>
#endif

using namespace snapshots;

namespace {

std::atomic<size_t> largest_allocation{0};

template <typename T>
bool is(const Result<T> & result, ErrorCode code) {
    return !result && result.error().code == code && !result.error().message.empty();
}

std::string detail(const Error & error, const std::string & key) {
    for (const ErrorDetail & detail : error.details) {
        if (detail.key == key) {
            return std::get<std::string>(detail.value);
        }
    }
    return "(absent)";
}

template <typename T>
void set(std::vector<uint8_t> & bytes, size_t at, T value) {
    std::memcpy(bytes.data() + at, &value, sizeof(value));
}

uint64_t number(const std::vector<uint8_t> & bytes, size_t at) {
    uint64_t value;
    std::memcpy(&value, bytes.data() + at, sizeof(value));
    return value;
}

/// Makes the head's checksum right, as far as the head's length lies in the buffer.
void reseal(std::vector<uint8_t> & bytes) {
    set<uint64_t>(bytes, 24, 0);
    set<uint64_t>(bytes, 24, checksum64(bytes.data(), std::min<uint64_t>(number(bytes, 8), bytes.size())));
}

void checksums() {
    CHECK(checksum64("", 0) == 0x2d06800538d394c2); // xxHash's own values
    CHECK(checksum64("a", 1) == 0xe6c632b61e964e1f);
    CHECK(checksum64("abc", 3) == 0x78af5f94892f3950);
    const std::vector<uint8_t> bytes = encoded(sample(1, 1000, 100000));
    for (size_t piece : {1, 7, 64, 1000, 65536}) {
        Checksum64 sum;
        for (size_t at = 0; at < bytes.size(); at += piece) {
            sum.add(bytes.data() + at, std::min(piece, bytes.size() - at));
        }
        CHECK(sum.value() == checksum64(bytes.data(), bytes.size()));
    }
}

void round_trip() {
    const Scratch scratch;
    std::vector<Snapshot> snapshots;
    snapshots.push_back(Snapshot{});
    for (const auto & [tokens, state] : std::vector<std::pair<size_t, size_t>>{{0, 0}, {0, 1}, {1, 0}, {3, 64}, {1000, 4095}, {50, 3 << 20}, {4, (8 << 20) - 1}, {4, 8 << 20}, {4, (9 << 20) + 1}}) {
        snapshots.push_back(sample(tokens + state, tokens, state));
    }
    for (size_t extra = 0; extra < 70; ++extra) { // every place that the head can end at
        snapshots.push_back(sample(extra, 2, 5));
        snapshots.back().text.append(extra, 'x');
    }
    for (const Snapshot & snapshot : snapshots) {
        std::vector<uint8_t> bytes = encoded(snapshot);
        const uint64_t head = number(bytes, 8);
        CHECK(head % 64 == 0 && head + snapshot.state.size == bytes.size() && number(bytes, 16) == bytes.size());
        const auto decoded = decode(bytes.data(), bytes.size());
        CHECK(decoded && same(*decoded, snapshot) && encoded(*decoded) == bytes);
        const std::string path = scratch / "a.ternion-state";
        CHECK(save_snapshot(snapshot, path));
        CHECK(read_file(path) == bytes);
        const auto loaded = load_snapshot(path);
        CHECK(loaded && same(*loaded, snapshot));
        const auto loaded_head = load_snapshot_head(path);
        CHECK(loaded_head && same(*loaded_head, snapshot));
    }
    CHECK(names_in(scratch.path()) == std::vector<std::string>{"a.ternion-state"});
}

/// `bytes` are refused with `code`, from memory and from a file, whose head alone is refused too.
void refused(const Scratch & scratch, const std::vector<uint8_t> & bytes, ErrorCode code) {
    CHECK(is(decode(bytes.data(), bytes.size()), code));
    const std::string path = scratch / "refused";
    write_file(path, bytes);
    const auto loaded = load_snapshot(path);
    CHECK(is(loaded, code) && detail(loaded.error(), "path") == path);
    CHECK(is(load_snapshot_head(path), code));
}

void damage() {
    const Scratch scratch;
    const std::vector<uint8_t> bytes = encoded(sample(2, 9, 20000));
    const size_t head = number(bytes, 8);
    for (size_t bit = 0; bit < head * 8; ++bit) {
        std::vector<uint8_t> damaged = bytes;
        damaged[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
        refused(scratch, damaged, ErrorCode::state_corrupt);
    }
    std::mt19937_64 random(3);
    const std::string path = scratch / "state";
    for (int i = 0; i < 1000; ++i) {
        std::vector<uint8_t> damaged = bytes;
        const size_t bit = head * 8 + random() % ((bytes.size() - head) * 8);
        damaged[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
        CHECK(is(decode(damaged.data(), damaged.size()), ErrorCode::state_corrupt));
        write_file(path, damaged);
        CHECK(is(load_snapshot(path), ErrorCode::state_corrupt));
        CHECK(load_snapshot_head(path));
    }
    for (size_t length = 0; length < bytes.size(); length += length <= head ? 1 : 997) {
        refused(scratch, {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length)}, ErrorCode::state_corrupt);
    }
    for (const size_t extra : {1, 64, 100000}) {
        std::vector<uint8_t> longer = bytes;
        longer.resize(bytes.size() + extra);
        refused(scratch, longer, ErrorCode::state_corrupt);
    }
    refused(scratch, std::vector<uint8_t>(1000, 0xff), ErrorCode::state_corrupt);
}

/// Two threads read the state of a large one.
void damage_in_a_large_file() {
    const Scratch scratch;
    const std::string path = scratch / "large";
    const std::vector<uint8_t> bytes = encoded(sample(8, 9, (8 << 20) + 3));
    const size_t head = number(bytes, 8), middle = head + (bytes.size() - head) / 2;
    for (const size_t at : {head, middle - 1, middle, middle + 1, bytes.size() - 1}) {
        std::vector<uint8_t> damaged = bytes;
        damaged[at] ^= 4;
        write_file(path, damaged);
        const auto loaded = load_snapshot(path);
        CHECK(is(loaded, ErrorCode::state_corrupt) && detail(loaded.error(), "path") == path);
    }
}

void hostile_lengths() {
    const Scratch scratch;
    const Snapshot snapshot = sample(4, 9, 100);
    const std::vector<uint8_t> bytes = encoded(snapshot);
    std::string settings_text;
    for (const Setting & setting : settings) {
        settings_text += setting.name + setting.value;
    }
    constexpr uint64_t most = UINT64_MAX;
    int accepted = 0;
    const auto hostile = [&](const auto & change) {
        std::vector<uint8_t> changed = bytes;
        change(changed);
        reseal(changed);
        CHECK(changed != bytes);
        largest_allocation = 0;
        const auto decoded = decode(changed.data(), changed.size());
        if (decoded) { // another snapshot, if it is one that would be written so
            CHECK(encoded(*decoded) == changed);
            accepted++;
        } else {
            refused(scratch, changed, ErrorCode::state_corrupt);
        }
        CHECK(largest_allocation < 100000);
    };
    // Values beside the true ones, those that overflow when they are added or multiplied, and the largest.
    for (const size_t at : {8, 16, 56, 64, 72}) { // head, total, tokens, text, conversation
        const uint64_t true_value = number(bytes, at);
        for (const uint64_t value : {uint64_t{0}, uint64_t{35}, uint64_t{36}, uint64_t{64}, true_value - 1, true_value + 1, true_value + 64, most / 4, most / 4 + 1, most / 4 + 10,
                 most / 2 + 1, most - 63, most - 79, most}) {
            hostile([&](auto & changed) { set(changed, at, value); });
        }
    }
    for (const uint32_t count : {0u, 2u, 4u, 1025u, 0x7fffffffu, 0xffffffffu}) {
        hostile([&](auto & changed) { set(changed, 52, count); });
    }
    for (const size_t at : {80, 84}) { // the first setting's name and value
        for (const uint32_t length : {0u, 1u, 6u, 33u, 0x7fffffffu, 0xfffffff8u, 0xffffffffu}) {
            hostile([&](auto & changed) { set(changed, at, length); });
        }
    }
    for (const uint32_t first : {10u, 0xffffffffu}) { // of 9 tokens
        hostile([&](auto & changed) { set(changed, 48, first); });
    }
    const size_t end = 80 + 3 * 8 + settings_text.size() + 9 * 4 + snapshot.text.size() + snapshot.conversation.size();
    CHECK(number(bytes, 8) - end > 10 && number(bytes, 8) - end < 64);
    for (size_t at = end; at < number(bytes, 8); ++at) {
        hostile([&](auto & changed) { changed[at] = 1; });
    }
    hostile([&](auto & changed) { // more padding than it takes
        changed.insert(changed.begin() + static_cast<std::ptrdiff_t>(number(bytes, 8)), 64, 0);
        set<uint64_t>(changed, 8, number(bytes, 8) + 64);
        set<uint64_t>(changed, 16, changed.size());
    });
    CHECK(accepted == 5); // tokens, text or conversation that take a few bytes of the padding
    // A head of nothing but settings: no more than a snapshot may have.
    Snapshot many;
    many.settings.resize(most_settings);
    CHECK(decode(encoded(many).data(), encoded(many).size()));
    many.settings.resize(most_settings + 1);
    refused(scratch, encoded(many), ErrorCode::state_corrupt);
}

void other_versions() {
    const Scratch scratch;
    const std::vector<uint8_t> bytes = encoded(sample(5, 9, 100));
    for (const uint32_t version : {0u, 2u, 0xffffffffu}) {
        std::vector<uint8_t> changed = bytes;
        set(changed, 32, version);
        set(changed, 36, 0xffffffff); // another version's fields mean something else
        set(changed, 56, UINT64_MAX);
        refused(scratch, changed, ErrorCode::state_corrupt);
        reseal(changed);
        refused(scratch, changed, ErrorCode::state_mismatch);
        const auto decoded = decode(changed.data(), changed.size());
        CHECK(!decoded && detail(decoded.error(), "found") == std::to_string(version) && detail(decoded.error(), "expected") == "1");
        CHECK(decoded.error().message.find("version " + std::to_string(version)) != std::string::npos);
        changed.pop_back();
        refused(scratch, changed, ErrorCode::state_corrupt);
    }
    for (int bit = 0; bit < 32; ++bit) {
        std::vector<uint8_t> changed = bytes;
        set(changed, 36, uint32_t{1} << bit);
        reseal(changed);
        refused(scratch, changed, ErrorCode::state_mismatch);
    }
}

void first_version() {
    const std::string path = "native/test/data/version-1.ternion-state";
    const auto loaded = load_snapshot(path);
    CHECK(loaded && same(*loaded, sample(6, 5, 100)));
    CHECK(loaded && encoded(*loaded) == read_file(path)); // until there is a second one
}

void settings_that_differ() {
    const auto difference = [](const std::vector<Setting> & found, const std::vector<Setting> & expected) {
        const auto checked = check_settings(found, expected);
        CHECK(is(checked, ErrorCode::state_mismatch));
        return checked ? Error{} : checked.error();
    };
    const std::vector<Setting> model = {{"kv.k", "f16"}, {"kv.v", "f16"}, {"build", "b"}};
    CHECK(check_settings(model, model) && check_settings({}, {}));
    CHECK(check_settings({{"build", "b"}, {"kv.v", "f16"}, {"kv.k", "f16"}}, model));

    const Error other = difference({{"kv.k", "q8_0"}, {"kv.v", "f16"}, {"build", "c"}}, model);
    CHECK(other.message.starts_with("the snapshot has kv.k = q8_0, the model f16"));
    CHECK(detail(other, "setting") == "kv.k" && detail(other, "found") == "q8_0" && detail(other, "expected") == "f16");
    const Error missing = difference({{"kv.k", "f16"}, {"build", "b"}}, model);
    CHECK(missing.message.starts_with("the snapshot has no kv.v, the model has f16"));
    CHECK(detail(missing, "setting") == "kv.v" && detail(missing, "found") == "(absent)" && detail(missing, "expected") == "f16");
    const Error additional = difference({{"kv.k", "f16"}, {"kv.v", "f16"}, {"swa", "full"}, {"build", "b"}}, model);
    CHECK(additional.message.starts_with("the snapshot has swa = full, the model has no such setting"));
    CHECK(detail(additional, "setting") == "swa" && detail(additional, "found") == "full" && detail(additional, "expected") == "(absent)");
    CHECK(detail(difference({{"kv.k", "f16"}, {"kv.k", "q8_0"}}, {{"kv.k", "f16"}}), "found") == "q8_0");
}

void files_that_cannot_be() {
    const Scratch scratch;
    const Snapshot snapshot = sample(7, 9, 1 << 20);
    const auto cannot_save = [&](const std::string & path) {
        const auto saved = save_snapshot(snapshot, path);
        CHECK(is(saved, ErrorCode::io) && detail(saved.error(), "path") == path);
    };
    fs::create_directory(scratch / "folder");
    cannot_save(scratch / "missing/a");
    cannot_save(scratch / "folder");
    cannot_save("");
    for (const std::string & path : {scratch / "missing", scratch / "folder", std::string()}) {
        CHECK(is(load_snapshot(path), ErrorCode::io) && is(load_snapshot_head(path), ErrorCode::io));
    }
#ifndef _WIN32
    if (fs::exists("/dev/full")) {
        cannot_save("/dev/full");
        CHECK(fs::is_character_file("/dev/full"));
    }
    const std::string pipe = scratch / "pipe";
    CHECK(mkfifo(pipe.c_str(), 0600) == 0);
    cannot_save(pipe);
    CHECK(is(load_snapshot(pipe), ErrorCode::io));

    // A disk that is full after some bytes: in the state, in the head, at once. What stood under the name stays.
    const Snapshot before = sample(8, 1, 1);
    CHECK(save_snapshot(before, scratch / "full"));
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit old;
    getrlimit(RLIMIT_FSIZE, &old);
    for (const rlim_t room : {1 << 19, 4096, 50, 0}) {
        const rlimit small{room, old.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        cannot_save(scratch / "full");
        cannot_save(scratch / "new");
        setrlimit(RLIMIT_FSIZE, &old);
    }
    const auto still = load_snapshot(scratch / "full");
    CHECK(still && same(*still, before));
    CHECK((names_in(scratch.path()) == std::vector<std::string>{"folder", "full", "pipe"}));
#endif
}

void several_writers_of_one_file() {
    const Scratch scratch;
    const std::string path = scratch / "shared";
    CHECK(save_snapshot(sample(0, 9, 200000), path));
    std::vector<std::thread> writers;
    std::atomic<int> damaged{0};
    for (uint64_t seed = 1; seed <= 4; ++seed) {
        writers.emplace_back([&, seed] {
            const Snapshot mine = sample(seed, 9, 200000 + 1000 * seed);
            for (int i = 0; i < 10; ++i) {
                damaged += !save_snapshot(mine, path) || !load_snapshot(path);
            }
        });
    }
    for (std::thread & writer : writers) {
        writer.join();
    }
    CHECK(damaged == 0);
    CHECK(names_in(scratch.path()) == std::vector<std::string>{"shared"});
}

} // namespace

// Not inlined: g++ 12 would take them for a mixture of new and free.
[[gnu::noinline]] void * operator new(size_t bytes) {
    size_t largest = largest_allocation;
    while (bytes > largest && !largest_allocation.compare_exchange_weak(largest, bytes)) {
    }
    if (void * memory = std::malloc(bytes)) {
        return memory;
    }
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void * memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void * memory, size_t) noexcept { std::free(memory); }

int main(int argc, char ** argv) {
    if (argc == 3 && std::string(argv[1]) == "--write") {
        return save_snapshot(sample(6, 5, 100), argv[2]) ? 0 : 1;
    }
    checksums();
    round_trip();
    damage();
    damage_in_a_large_file();
    hostile_lengths();
    other_versions();
    first_version();
    settings_that_differ();
    files_that_cannot_be();
    several_writers_of_one_file();
    return finish_tests();
}
