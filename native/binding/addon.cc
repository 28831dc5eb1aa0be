// The module: the Addon of lib/native.ts.
#include "convert.h"
#include "environment.h"
#include "kernel_bench_object.h"
#include "model_object.h"
#include "on_io.h"
#include "snapshot_object.h"
#include "task.h"

#include "engine/device_bandwidth.h"
#include "engine/fingerprint.h"
#include "engine/log.h"
#include "engine/multiply_peak.h"
#include "engine/read_bandwidth.h"

#if defined(TERNION_WITH_HIP) || defined(TERNION_WITH_CUDA)
#include "ggml-cuda.h"
#endif

namespace ternion::binding {
namespace {

napi_value build_info(napi_env env, const Call &) { return make_build_info(env); }

napi_value devices(napi_env env, const Call & call) {
    return on_io(env, "listing the devices", [probe_gpu = to_bool(env, call[0])]() -> Result<DeviceList> { return list_devices(probe_gpu); }, resolve_made);
}

napi_value limit_device(napi_env env, const Call & call) {
    const double bytes = to_number(env, call[1]);
    return on_io(
        env, "limiting the device",
        [id = to_string(env, call[0]), bytes] { return ternion::limit_device(id, bytes < 0 ? std::nullopt : std::optional(static_cast<uint64_t>(bytes))); }, resolve_nothing);
}

napi_value held(napi_env env, const Call & call) {
    return on_io(
        env, "reading what is held of the devices",
        [ids = to_strings(env, call[0])]() -> Result<std::vector<HeldMemory>> {
            const auto gpus = find_gpu_devices(ids);
            return held_memory(gpus ? *gpus : std::vector<Device>());
        },
        resolve_made);
}

napi_value inspect(napi_env env, const Call & call) {
    return on_io(env, "reading the header", [path = to_string(env, call[0])] { return GgufFile::read(path); }, resolve_made);
}

napi_value fingerprint_of(napi_env env, const Call & call) {
    return on_io(
        env, "reading the file", [path = to_string(env, call[0])] { return fingerprint(path); },
        [](const Promise & settled, const Fingerprint & found) { settled.resolve([text = to_text(found)](napi_env e) { return make(e, text); }); });
}

napi_value load(napi_env env, const Call & call) {
    EngineOptions options = read_load_options(env, call[0]);
    const std::string path = options.model.path;
    return start_task(
        env, call[1], path,
        [options = std::move(options)](const auto & report, const std::atomic<bool> & cancel) { return Engine::load(options, report, cancel); },
        [](napi_env e, std::unique_ptr<Engine> engine) { return ModelObject::create(e, std::move(engine)); });
}

napi_value dry_run(napi_env env, const Call & call) {
    EngineOptions options = read_load_options(env, call[0]);
    const std::string path = options.model.path;
    return start_task(
        env, call[1], path, [options = std::move(options)](const auto &, const std::atomic<bool> & cancel) { return Engine::dry_run(options, cancel); },
        [](napi_env e, const DryRun & run) { return make(e, run); });
}

napi_value measure_steps(napi_env env, const Call & call) {
    EngineOptions options = read_load_options(env, call[0]);
    const std::string path = options.model.path;
    std::vector<StepPoint> points = read_step_points(env, call[1]);
    return start_task(
        env, call[2], path,
        [options = std::move(options), points = std::move(points)](const auto & report, const std::atomic<bool> & cancel) { return step_times(options, points, report, cancel); },
        [](napi_env e, const StepTimes & times) { return make(e, times); });
}

napi_value synthesize_file(napi_env env, const Call & call) {
    SynthOptions options = read_synth_options(env, call[0]);
    const std::string path = options.path;
    return start_task(
        env, call[1], path,
        [options = std::move(options)](const auto & report, const std::atomic<bool> & cancel) { return synthesize(options, report, cancel); },
        [](napi_env e, uint64_t bytes) { return make(e, static_cast<double>(bytes)); });
}

napi_value import_file(napi_env env, const Call & call) {
    ImportOptions options = read_import_options(env, call[0]);
    const std::string path = options.input;
    return start_task(
        env, call[1], path,
        [options = std::move(options)](const auto & report, const std::atomic<bool> & cancel) { return import_model(options, report, cancel); },
        [](napi_env e, const ImportReport & report) { return make(e, report); });
}

napi_value quantize_file(napi_env env, const Call & call) {
    QuantizeOptions options = read_quantize_options(env, call[0]);
    const std::string path = options.output;
    return start_task(
        env, call[1], path,
        [options = std::move(options)](const auto & report, const std::atomic<bool> & cancel) { return quantize(options, report, cancel); },
        [](napi_env e, const QuantizeReport & report) { return make(e, report); });
}

napi_value verify(napi_env env, const Call & call) {
    auto path = to_string(env, call[0]);
    return start_task(
        env, call[1], path, [path](const auto & report, const std::atomic<bool> & cancel) { return verify_gguf(path, report, cancel); },
        [](napi_env e, const std::vector<TensorHealth> & tensors) { return make(e, tensors); });
}

napi_value verify_pack_file(napi_env env, const Call & call) {
    auto path = to_string(env, call[0]);
    return start_task(
        env, call[1], path, [path](const auto & report, const std::atomic<bool> & cancel) { return verify_pack(path, report, cancel); },
        [](napi_env e, const PackHealth & health) { return make(e, health); });
}

napi_value measure_read_bandwidth(napi_env env, const Call & call) {
    const auto n_threads = static_cast<size_t>(to_number(env, call[0]));
    return start_task(
        env, call[1], "measuring the read bandwidth",
        [n_threads](const auto & report, const std::atomic<bool> & cancel) { return read_bandwidth(n_threads, report, cancel); },
        [](napi_env e, double bytes_per_second) { return make(e, bytes_per_second); });
}

napi_value measure_device_bandwidth(napi_env env, const Call & call) {
    const std::string id = to_string(env, call[0]);
    return start_task(
        env, call[1], "measuring a device's read bandwidth",
        [id](const auto & report, const std::atomic<bool> & cancel) { return device_read_bandwidth(id, report, cancel); },
        [](napi_env e, double bytes_per_second) { return make(e, bytes_per_second); });
}

napi_value measure_multiply_peak(napi_env env, const Call & call) {
    const auto n_threads = static_cast<size_t>(to_number(env, call[0]));
    return start_task(
        env, call[1], "measuring the multiply-add rate",
        [n_threads](const auto & report, const std::atomic<bool> & cancel) { return multiply_peak(n_threads, report, cancel); },
        [](napi_env e, const MultiplyPeak & peak) {
            napi_value object = make_object(e);
            set(e, object, "instruction", peak.instruction);
            set(e, object, "productsPerSecond", peak.products_per_second);
            return object;
        });
}

napi_value on_log(napi_env env, const Call & call) {
    Environment & environment = Environment::of(env);
    const auto level = static_cast<LogLevel>(static_cast<int>(to_number(env, call[0])));
    if (!is_function(env, call[1])) {
        environment.set_log_sink(0);
        return nullptr;
    }
    napi_ref reference = nullptr;
    napi_create_reference(env, call[1], 1, &reference);
    // Lines that are on their way when the listener changes still hold the reference; the last of them to go frees it.
    const std::shared_ptr<void> listener(static_cast<void *>(reference), [weak = environment.weak_from_this()](void * ref) {
        if (const auto target = weak.lock()) {
            target->post([ref](napi_env e) { napi_delete_reference(e, static_cast<napi_ref>(ref)); });
        }
    });
    log_install();
    environment.set_log_sink(log_add_sink(level, [weak = environment.weak_from_this(), listener](LogLevel at, std::string line) {
        const auto target = weak.lock();
        if (!target) {
            return;
        }
        target->post([listener, at, line = std::move(line)](napi_env e) {
            napi_value callback = nullptr;
            if (napi_get_reference_value(e, static_cast<napi_ref>(listener.get()), &callback) == napi_ok && callback) {
                const napi_value arguments[] = {make(e, static_cast<double>(at)), make(e, line)};
                call_back(e, callback, 2, arguments);
            }
        });
    }));
    return nullptr;
}

// What was reported to garbage collection, by everybody in this thread; process.memoryUsage() does not tell.
napi_value reported_memory(napi_env env, const Call &) {
    int64_t total = 0;
    napi_adjust_external_memory(env, 0, &total);
    return make(env, static_cast<double>(total));
}

napi_value stop(napi_env env, const Call &) {
    Environment::of(env).stop();
    return nullptr;
}

#if defined(TERNION_WITH_HIP) || defined(TERNION_WITH_CUDA)
void add_linked_gpu_backend() {
#ifdef TERNION_WITH_HIP
    const char * name = "hip";
#else
    const char * name = "cuda";
#endif
    static const bool once = [name] {
        add_gpu_backend({name, true, [](std::string & why) -> ggml_backend_reg_t {
            ggml_backend_reg_t reg = ggml_backend_cuda_reg();
            if (reg && ggml_backend_reg_dev_count(reg) > 0) {
                return reg;
            }
            why = "the driver lists no device";
            return nullptr;
        }});
        return true;
    }();
    (void) once;
}
#endif

} // namespace
} // namespace ternion::binding

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
    using namespace ternion::binding;
    if (!Environment::install(env)) {
        napi_throw_error(env, "ERR_INTERNAL", "the addon could not be initialised");
        return nullptr;
    }
#if defined(TERNION_WITH_HIP) || defined(TERNION_WITH_CUDA)
    add_linked_gpu_backend();
#endif
    set(env, exports, "buildInfo", make_function(env, "buildInfo", guarded<build_info>));
    set(env, exports, "limitDevice", make_function(env, "limitDevice", guarded<limit_device>));
    set(env, exports, "devices", make_function(env, "devices", guarded<devices>));
    set(env, exports, "heldMemory", make_function(env, "heldMemory", guarded<held>));
    set(env, exports, "fingerprint", make_function(env, "fingerprint", guarded<fingerprint_of>));
    set(env, exports, "inspect", make_function(env, "inspect", guarded<inspect>));
    set(env, exports, "dryRun", make_function(env, "dryRun", guarded<dry_run>));
    set(env, exports, "stepTimes", make_function(env, "stepTimes", guarded<measure_steps>));
    set(env, exports, "load", make_function(env, "load", guarded<load>));
    set(env, exports, "synthesize", make_function(env, "synthesize", guarded<synthesize_file>));
    set(env, exports, "importModel", make_function(env, "importModel", guarded<import_file>));
    set(env, exports, "quantize", make_function(env, "quantize", guarded<quantize_file>));
    set(env, exports, "verify", make_function(env, "verify", guarded<verify>));
    set(env, exports, "verifyPack", make_function(env, "verifyPack", guarded<verify_pack_file>));
    set(env, exports, "deviceBandwidth", make_function(env, "deviceBandwidth", guarded<measure_device_bandwidth>));
    set(env, exports, "readBandwidth", make_function(env, "readBandwidth", guarded<measure_read_bandwidth>));
    set(env, exports, "multiplyPeak", make_function(env, "multiplyPeak", guarded<measure_multiply_peak>));
    set(env, exports, "kernels", make_function(env, "kernels", guarded<make_kernel_facts>));
    set(env, exports, "kernelBench", make_function(env, "kernelBench", guarded<make_kernel_bench>));
    set(env, exports, "loadSnapshot", make_function(env, "loadSnapshot", guarded<load_snapshot_file>));
    set(env, exports, "decodeSnapshot", make_function(env, "decodeSnapshot", guarded<decode_snapshot>));
    set(env, exports, "reportedMemory", make_function(env, "reportedMemory", guarded<reported_memory>));
    set(env, exports, "stop", make_function(env, "stop", guarded<stop>));
    set(env, exports, "onLog", make_function(env, "onLog", guarded<on_log>));
    return exports;
}
