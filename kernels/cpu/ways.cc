#include "ways.h"

#include "last_level_cache.h"
#include "matmul.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <sstream>
#include <thread>
#include <vector>

namespace ternion::kernels {
namespace {

constexpr Way ternary[] = {{"ternary", Layout::ternary, false}, {"quints", Layout::quints, false}};
constexpr Way quints[] = {{"quints", Layout::quints, false}, {"ternary", Layout::ternary, false}};
constexpr Way sherry[] = {{"multiply", Layout::sherry, false}, {"lookup", Layout::sherry, true}};
constexpr Way nibbles_lookup[] = {{"lookup", Layout::nibbles, true}};
constexpr Way nibbles_expand[] = {{"expand", Layout::nibbles, false}};
constexpr Way bytes[] = {{"bytes", Layout::bytes, false}};
constexpr Way six_bits[] = {{"six-bits", Layout::six_bits, false}};

const char * name_of(SourceFormat format) {
    switch (format) {
        case SourceFormat::tq1_0:  return "tq1_0";
        case SourceFormat::tq2_0:  return "tq2_0";
        case SourceFormat::q8_0:   return "q8_0";
        case SourceFormat::stq1_0: return "stq1_0";
        case SourceFormat::q6_k:   return "q6_k";
    }
    return "";
}

// ---- trying ---------------------------------------------------------------------------------------------------------

constexpr size_t most_memory = 256 << 20, most_matrix = 8 << 20;
constexpr double least_seconds = 5e-4; // of a sample
constexpr size_t samples = 5;          // of each way, in turn, after one that warms up

size_t trial_bytes(bool in_cache) {
    const size_t cache = last_level_cache() ? last_level_cache() : 32 << 20;
    return in_cache ? std::min<size_t>(cache / 4, 8 << 20) : std::min(cache + cache / 2, most_memory);
}

class Trial {
  public:
    Trial(const TimedCase & on, const Way & way, const PackedMemory & memory)
        : on_(on), matrix_{way.layout, memory.data(), rows_of(on, way, memory.bytes()), on.columns, 1, way.look_up},
          copy_bytes_(packed_bytes(way.layout, matrix_.rows, on.columns)), n_copies_(std::max<size_t>(1, memory.bytes() / copy_bytes_)),
          in_(on.columns, 0.5f), out_(matrix_.rows), scratch_(matmul_scratch(on.kernels, matrix_, 1, on.n_threads)) {}

    /// Seconds for a row of the matrix.
    double sample() {
        if (products_ == 0) {
            products_ = n_copies_;
            const double once = run();
            products_ = static_cast<size_t>(std::clamp(least_seconds / once, 1.0, 1e4) * static_cast<double>(n_copies_));
        }
        return run() / static_cast<double>(products_ * matrix_.rows);
    }

  private:
    // A part of a large matrix does as well, and no more than there is memory for.
    static size_t rows_of(const TimedCase & on, const Way & way, size_t memory_bytes) {
        const size_t group = packed_bytes(way.layout, tile_rows, on.columns);
        const size_t wanted = std::max(4 * on.n_threads, most_matrix / group);
        return std::min(on.rows, std::clamp<size_t>(wanted, 1, memory_bytes / group) * tile_rows);
    }

    // Threads begin together, once all are there; each goes at its own pace, and the last one counts.
    double run() {
        using Clock = std::chrono::steady_clock;
        std::atomic<size_t> missing{on_.n_threads};
        std::atomic<bool> given_up{false};
        std::vector<double> seconds(on_.n_threads);
        const auto part = [&](size_t index) {
            missing.fetch_sub(1);
            while (missing.load() > 0) {
                if (given_up.load()) {
                    return;
                }
                std::this_thread::yield();
            }
            const auto begun = Clock::now();
            for (size_t i = 0; i < products_; ++i) {
                PackedMatrix copy = matrix_;
                copy.data += next(i) * copy_bytes_;
                const Columns in{reinterpret_cast<char *>(in_.data()), 1, 1, 0, 0, 0}, out{reinterpret_cast<char *>(out_.data()), 1, 1, 0, 0, 0};
                matmul(on_.kernels, copy, in, out, {}, 1, scratch_.data(), {index, on_.n_threads, nullptr});
            }
            seconds[index] = std::chrono::duration<double>(Clock::now() - begun).count();
        };
        std::vector<std::thread> others;
        try {
            for (size_t i = 1; i < on_.n_threads; ++i) {
                others.emplace_back(part, i);
            }
        } catch (...) {
            given_up = true;
            for (std::thread & thread : others) {
                thread.join();
            }
            throw;
        }
        part(0);
        for (std::thread & thread : others) {
            thread.join();
        }
        first_ += products_;
        return *std::max_element(seconds.begin(), seconds.end());
    }

    size_t next(size_t i) const { return (first_ + i) % n_copies_; }

    const TimedCase & on_;
    PackedMatrix matrix_;
    size_t copy_bytes_, n_copies_, products_ = 0, first_ = 0;
    std::vector<float> in_, out_;
    std::vector<uint8_t> scratch_;
};

size_t fastest_of(std::span<const Way> ways, const TimedCase & on, TrialMemory & memory) {
    constexpr double worth_it = 0.97; // of the time of the first one: above that another way is lucky, not better
    size_t bytes = trial_bytes(on.in_cache);
    for (const Way & way : ways) {
        bytes = std::max(bytes, packed_bytes(way.layout, tile_rows, on.columns));
    }
    if (!memory || memory->bytes() < bytes || on.in_cache) { // a case of the cache has no more than it needs
        memory = std::make_unique<PackedMemory>(bytes);
        std::memset(memory->data(), 0x35, bytes); // in memory of its own; what it is does not matter for the time
    }
    std::vector<std::unique_ptr<Trial>> trials;
    for (const Way & way : ways) {
        trials.push_back(std::make_unique<Trial>(on, way, *memory));
    }
    // Compared with the first one's time just before: other work comes and goes.
    std::vector<std::array<double, samples>> ratios(ways.size());
    for (const auto & trial : trials) {
        trial->sample();
    }
    for (size_t i = 0; i < samples; ++i) {
        const double first = trials[0]->sample();
        ratios[0][i] = worth_it;
        for (size_t w = 1; w < ways.size(); ++w) {
            ratios[w][i] = trials[w]->sample() / first;
        }
    }
    size_t best = 0;
    std::vector<double> medians;
    for (auto & of_way : ratios) {
        std::nth_element(of_way.begin(), of_way.begin() + samples / 2, of_way.end());
        medians.push_back(of_way[samples / 2]);
        best = medians.back() < medians[best] ? medians.size() - 1 : best;
    }
    return best;
}

// ---- what is known --------------------------------------------------------------------------------------------------

std::string key_of(const TimedCase & on) {
    std::ostringstream key;
    key << on.kernels.name << ' ' << name_of(on.format) << ' ' << on.rows << 'x' << on.columns << ' ' << (on.in_cache ? "cache" : "memory") << ' ' << on.n_threads;
    return key.str();
}

} // namespace

std::span<const Way> ways_of(const Kernels & kernels, SourceFormat format) {
    const CodedKernels & coded = *kernels.stq1_0;
    switch (format) {
        case SourceFormat::tq1_0: return kernels.quints ? std::span<const Way>(quints) : std::span<const Way>(ternary, 1);
        case SourceFormat::tq2_0: return kernels.quints ? std::span<const Way>(ternary) : std::span<const Way>(ternary, 1);
        case SourceFormat::q8_0:  return bytes;
        case SourceFormat::q6_k:  return six_bits;
        case SourceFormat::stq1_0:
            if (coded.layout == Layout::sherry) {
                return sherry;
            }
            return coded.table_bytes > 0 ? std::span<const Way>(nibbles_lookup) : std::span<const Way>(nibbles_expand);
    }
    return {};
}

Timings & Timings::instance() {
    static Timings timings;
    return timings;
}

const Way & Timings::fastest(const TimedCase & on, TrialMemory & memory) {
    const auto ways = ways_of(on.kernels, on.format);
    if (ways.size() == 1) {
        return ways[0];
    }
    try {
        const std::string key = key_of(on);
        const std::lock_guard lock(mutex_);
        if (const auto found = known_.find(key); found != known_.end()) {
            const auto way = std::find_if(ways.begin(), ways.end(), [&](const Way & w) { return found->second == w.name; });
            if (way != ways.end()) {
                return *way;
            }
        }
        size_t best = 0;
        const auto attempt = [&] { best = fastest_of(ways, on, memory); };
        on.alone ? on.alone(attempt) : attempt();
        known_[key] = ways[best].name;
        return ways[best];
    } catch (const std::exception &) {
        return ways[0]; // no memory, no threads
    }
}

std::string Timings::save() {
    const std::lock_guard lock(mutex_);
    std::string lines;
    for (const auto & [key, way] : known_) {
        lines += key + " " + way + "\n";
    }
    return lines;
}

void Timings::restore(const std::string & lines) {
    const std::lock_guard lock(mutex_);
    std::istringstream in(lines);
    for (std::string line; std::getline(in, line);) {
        if (const size_t space = line.rfind(' '); space != std::string::npos) {
            known_.try_emplace(line.substr(0, space), line.substr(space + 1));
        }
    }
}

} // namespace ternion::kernels
