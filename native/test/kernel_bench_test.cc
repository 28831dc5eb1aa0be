// The kernel benchmark: every multiplier gives a time and the right result, and what cannot be is refused.
#include "check.h"

#include "engine/backend.h"
#include "engine/kernel_bench.h"
#include "engine/multiply_peak.h"
#include "engine/time_together.h"

#include "kernels/cpu/buffer_type.h"

#include <cmath>
#include <set>
#include <stdexcept>
#include <thread>

using namespace ternion;

namespace {

const std::atomic<bool> never{false};

std::vector<std::string> all_names() {
    std::vector<std::string> names;
    for (const Multiplier & multiplier : multipliers()) {
        names.push_back(multiplier.name);
    }
    return names;
}

void names_are_upstreams_then_ours() {
    const auto names = all_names();
    CHECK(std::set<std::string>(names.begin(), names.end()).size() == names.size());
    CHECK(std::find(names.begin(), names.end(), "upstream") != names.end());
    CHECK(names.front().rfind("upstream", 0) == 0 && names.back() == "scalar");
}

void every_multiplier_is_timed_and_right() {
    for (const KernelBenchOptions & options : {
             KernelBenchOptions{"tq1_0", 70, 512, 1, 0, 0, 3, all_names()},
             KernelBenchOptions{"tq2_0", 256, 1024, 9, 0, 0, 2, all_names()},
             KernelBenchOptions{"q8_0", 33, 96, 2, 0, 0, 1, all_names()},
             KernelBenchOptions{"stq1_0", 64, 256, 20, 0, 0, 2, all_names()},
             KernelBenchOptions{"tq2_0", 70, 256, 5, 6, 4, 2, all_names()},
             KernelBenchOptions{"q4_0", 64, 256, 3, 0, 0, 2, all_names()},
             KernelBenchOptions{"q4_K", 64, 256, 3, 5, 2, 1, all_names()},
             KernelBenchOptions{"iq2_xxs", 16, 256, 1, 0, 0, 1, all_names()},
             KernelBenchOptions{"f32", 8, 12, 1, 0, 0, 1, all_names()},
         }) {
        const auto bench = KernelBench::create(options, never);
        CHECK(static_cast<bool>(bench));
        const bool packed = options.type[0] == 't' || options.type[0] == 's' || options.type == "q8_0";
        size_t ours = 0;
        for (size_t i = 0; i < (*bench)->systems().size(); ++i) {
            const KernelBench::System & system = (*bench)->systems()[i];
            ours += system.ours;
            for (const int threads : {1, 2}) {
                const auto seconds = (*bench)->sample(i, threads, 5, never);
                CHECK(seconds && *seconds > 0.0 && *seconds < 60.0);
                const auto error = (*bench)->error(i, threads, never);
                CHECK(error && error->outputs > 0 && error->rms < 0.03 && error->largest < 0.05 && error->largest >= 0.0);
                CHECK(packed ? error->from_scalar >= 0.0 : error->from_scalar < 0.0);
                CHECK(!system.ours || error->from_scalar <= 1e-6);
                if (options.type == "f32") {
                    CHECK(error->rms < 1e-5);
                }
            }
        }
        // Sets of kernels, and the ways of one that has several for the type.
        const auto is_set = [](const std::string & name) { return name.rfind("upstream", 0) != 0 && name.find('/') == std::string::npos; };
        const size_t sets = static_cast<size_t>(std::count_if(options.kernels.begin(), options.kernels.end(), is_set));
        const bool has_ways = options.type[0] != 'q' && std::count(options.kernels.begin(), options.kernels.end(), "avx512-vbmi2") > 0;
        CHECK(ours == (packed ? sets + (has_ways ? 2 : 0) : 0));
        CHECK((*bench)->systems().size() > ours);
    }
}

// Weights of a mixture count as read only where a token chose them.
void bytes_are_those_that_a_product_reads() {
    const auto dense = KernelBench::create({"q8_0", 32, 64, 4, 0, 0, 3, {"upstream"}}, never);
    CHECK(dense && (*dense)->systems().front().bytes == 32 * 2 * 34);
    const auto few = KernelBench::create({"q8_0", 32, 64, 1, 8, 2, 3, {"upstream"}}, never);
    CHECK(few && (*few)->systems().front().bytes == 2 * 32 * 2 * 34);
    const auto many = KernelBench::create({"q8_0", 32, 64, 9, 8, 2, 3, {"upstream"}}, never);
    CHECK(many && (*many)->systems().front().bytes == 8 * 32 * 2 * 34);
}

void what_cannot_be_is_refused() {
    const KernelBenchOptions bad[] = {
        {"tq9_0", 32, 256, 1, 0, 0, 1, {}}, {"tq2_0", 32, 255, 1, 0, 0, 1, {}}, {"tq2_0", 0, 256, 1, 0, 0, 1, {}}, {"tq2_0", 32, -256, 1, 0, 0, 1, {}},
        {"tq2_0", 32, 256, 0, 0, 0, 1, {}}, {"tq2_0", 32, 256, 1, 4, 5, 1, {}}, {"tq2_0", 32, 256, 1, 4, 0, 1, {}}, {"tq2_0", 32, 256, 1, 0, 0, 0, {}},
    };
    for (const KernelBenchOptions & options : bad) {
        const auto bench = KernelBench::create(options, never);
        CHECK(!bench && bench.error().code == ErrorCode::invalid_arg);
    }
}

void cancelling_ends_it() {
    std::atomic<bool> cancel{true};
    const auto none = KernelBench::create({"tq2_0", 64, 256, 1, 0, 0, 1, {"upstream"}}, cancel);
    CHECK(!none && none.error().code == ErrorCode::aborted);
    const auto bench = KernelBench::create({"tq2_0", 2048, 2048, 8, 0, 0, 1, {"scalar"}}, never);
    cancel = false;
    std::thread later([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        cancel = true;
    });
    const auto sample = (*bench)->sample(0, 2, 100000, cancel);
    later.join();
    CHECK(!sample && sample.error().code == ErrorCode::aborted);
    CHECK(static_cast<bool>((*bench)->sample(0, 2, 1, never)));
}

void threads_work_together() {
    std::atomic<int> ran{0};
    CHECK(time_together(3, [&](size_t t) { ran += 1 << t; }) >= 0.0);
    CHECK(ran == 7);
}

void the_peak_grows_with_no_memory() {
    const auto peak = multiply_peak(1, [](double) {}, never);
    CHECK(peak && (peak->instruction.empty() ? peak->products_per_second == 0.0 : peak->products_per_second > 1e9));
    const std::atomic<bool> at_once{true};
    const auto aborted = multiply_peak(1, [](double) {}, at_once);
    CHECK(peak->instruction.empty() || (!aborted && aborted.error().code == ErrorCode::aborted));
    if (peak) {
        std::printf("%s: %.0f G products/s\n", peak->instruction.c_str(), peak->products_per_second / 1e9);
    }
}

} // namespace

int main() {
    backend_init();
    names_are_upstreams_then_ours();
    every_multiplier_is_timed_and_right();
    bytes_are_those_that_a_product_reads();
    what_cannot_be_is_refused();
    cancelling_ends_it();
    threads_work_together();
    the_peak_grows_with_no_memory();
    return finish_tests();
}
