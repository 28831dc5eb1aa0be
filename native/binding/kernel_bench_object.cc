#include "kernel_bench_object.h"

#include "convert.h"
#include "task.h"

#include "engine/backend.h"
#include "engine/kernel_bench.h"

namespace ternion::binding {
namespace {

/// Shared by the functions of one JavaScript object, which own it; a running sample keeps the benchmark itself.
struct Held {
    std::shared_ptr<KernelBench> bench; // null once disposed
};
using Holder = std::shared_ptr<Held>;

std::shared_ptr<KernelBench> bench_of(const Call & call) {
    const auto & held = *static_cast<Holder *>(call.data);
    if (!held->bench) {
        throw ArgumentError{"native binding: the benchmark was disposed"};
    }
    return held->bench;
}

napi_value sample(napi_env env, const Call & call) {
    const auto system = static_cast<size_t>(to_number(env, call[0]));
    const auto threads = static_cast<int>(to_number(env, call[1]));
    const auto products = static_cast<size_t>(to_number(env, call[2]));
    return start_task(
        env, nullptr, "measuring",
        [bench = bench_of(call), system, threads, products](const auto &, const std::atomic<bool> & cancel) { return bench->sample(system, threads, products, cancel); },
        [](napi_env e, double seconds) { return make(e, seconds); });
}

napi_value error(napi_env env, const Call & call) {
    const auto system = static_cast<size_t>(to_number(env, call[0]));
    const auto threads = static_cast<int>(to_number(env, call[1]));
    return start_task(
        env, nullptr, "checking",
        [bench = bench_of(call), system, threads](const auto &, const std::atomic<bool> & cancel) { return bench->error(system, threads, cancel); },
        [](napi_env e, const ProductError & found) {
            napi_value object = make_object(e);
            set(e, object, "outputs", static_cast<double>(found.outputs));
            set(e, object, "rms", found.rms);
            set(e, object, "largest", found.largest);
            set(e, object, "fromScalar", found.from_scalar);
            return object;
        });
}

napi_value dispose(napi_env env, const Call & call) {
    // Gigabytes may have to go back to the system, and threads to end: not here.
    Environment::of(env).teardown.post([bench = std::move((*static_cast<Holder *>(call.data))->bench)](bool) mutable { bench.reset(); });
    return nullptr;
}

void add_method(napi_env env, napi_value object, const char * name, napi_callback callback, const Holder & held) {
    auto * data = new Holder(held);
    napi_value function = make_function(env, name, callback, data);
    napi_add_finalizer(env, function, data, [](napi_env, void * d, void *) { delete static_cast<Holder *>(d); }, nullptr, nullptr);
    set(env, object, name, function);
}

napi_value make_bench(napi_env env, std::unique_ptr<KernelBench> bench) {
    const auto held = std::make_shared<Held>(Held{std::move(bench)});
    napi_value object = make_object(env);
    const auto & systems = held->bench->systems();
    napi_value array = make_array(env, systems.size());
    for (size_t i = 0; i < systems.size(); ++i) {
        napi_value system = make_object(env);
        set(env, system, "name", systems[i].name);
        set(env, system, "ours", make_bool(env, systems[i].ours));
        set(env, system, "bytes", static_cast<double>(systems[i].bytes));
        set_element(env, array, i, system);
    }
    set(env, object, "systems", array);
    add_method(env, object, "sample", guarded<sample>, held);
    add_method(env, object, "error", guarded<error>, held);
    add_method(env, object, "dispose", guarded<dispose>, held);
    return object;
}

} // namespace

napi_value make_kernel_facts(napi_env env, const Call &) {
    backend_init();
    const auto all = multipliers();
    napi_value names = make_array(env, all.size());
    for (size_t i = 0; i < all.size(); ++i) {
        set_element(env, names, i, make(env, all[i].name));
    }
    const auto measurable = measurable_types();
    napi_value types = make_array(env, measurable.size());
    for (size_t i = 0; i < measurable.size(); ++i) {
        napi_value type = make_object(env);
        set(env, type, "name", measurable[i].name);
        set(env, type, "blockWeights", static_cast<double>(measurable[i].block_weights));
        set(env, type, "blockBytes", static_cast<double>(measurable[i].block_bytes));
        set_element(env, types, i, type);
    }
    napi_value facts = make_object(env);
    set(env, facts, "names", names);
    set(env, facts, "types", types);
    set(env, facts, "threads", static_cast<double>(default_threads()));
    return facts;
}

napi_value make_kernel_bench(napi_env env, const Call & call) {
    KernelBenchOptions options = read_kernel_bench_options(env, call[0]);
    return start_task(
        env, nullptr, "preparing a matrix",
        [options = std::move(options)](const auto &, const std::atomic<bool> & cancel) { return KernelBench::create(options, cancel); },
        [](napi_env e, std::unique_ptr<KernelBench> bench) { return make_bench(e, std::move(bench)); });
}

} // namespace ternion::binding
