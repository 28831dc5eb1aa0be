// read_bandwidth THREADS…: how fast this machine reads memory, as one line of JSON per thread count.
//
// Each thread sums its own part of a buffer that is larger than any last-level cache. The best of several passes
// counts: disturbance only ever slows a pass down.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

constexpr size_t bytes = size_t{1} << 30;
constexpr int passes = 8;

// Sixteen sums, so that the additions do not wait for each other and the compiler can use vectors.
uint64_t sum(const uint64_t * data, size_t n) {
    uint64_t lane[16] = {};
    for (size_t i = 0; i + 16 <= n; i += 16) {
        for (size_t j = 0; j < 16; ++j) {
            lane[j] += data[i + j];
        }
    }
    uint64_t total = 0;
    for (const uint64_t part : lane) {
        total += part;
    }
    return total;
}

double gigabytes_per_second(const std::vector<uint64_t> & data, size_t n_threads) {
    std::atomic<size_t> ready{0};
    std::atomic<bool> go{false};
    std::atomic<uint64_t> total{0};
    const size_t part = data.size() / n_threads;
    std::vector<std::thread> threads;
    for (size_t t = 0; t < n_threads; ++t) {
        threads.emplace_back([&, t] {
            ready++;
            while (!go) {
            }
            total += sum(data.data() + t * part, part);
        });
    }
    while (ready < n_threads) {
    }
    const auto start = std::chrono::steady_clock::now();
    go = true;
    for (std::thread & thread : threads) {
        thread.join();
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    if (total == 0) {
        std::abort(); // also keeps the sums from being optimised away
    }
    return static_cast<double>(part * n_threads * sizeof(uint64_t)) / took.count() / 1e9;
}

} // namespace

int main(int argc, char ** argv) {
    const std::vector<uint64_t> data(bytes / sizeof(uint64_t), 1);
    for (int i = 1; i < argc; ++i) {
        const auto threads = static_cast<size_t>(std::max(1, std::atoi(argv[i])));
        double best = 0.0;
        for (int pass = 0; pass < passes; ++pass) {
            best = std::max(best, gigabytes_per_second(data, threads));
        }
        std::printf("{\"threads\":%zu,\"gigabytesPerSecond\":%.1f}\n", threads, best);
    }
}
