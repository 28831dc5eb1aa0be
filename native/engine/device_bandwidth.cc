#include "device_bandwidth.h"

#include "backend.h"

#include "ggml.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

namespace ternion {
namespace {

constexpr int64_t columns = 4096;
constexpr uint64_t matrix_bytes = 64 << 20; // one matrix stays below what any device binds at once
constexpr uint64_t most_bytes = 1 << 30;
constexpr int passes = 8;

template <auto free>
struct Free {
    template <typename T>
    void operator()(T * thing) const {
        free(thing);
    }
};
template <typename T, auto free>
using Handle = std::unique_ptr<T, Free<free>>;

Result<double> measure(const Device & device, const std::function<void(double)> & progress, const std::atomic<bool> & cancel) {
    const int64_t rows = static_cast<int64_t>(matrix_bytes) / (columns * 2);
    const uint64_t room = std::min<uint64_t>(most_bytes, device.free_bytes / 8);
    const int n = static_cast<int>(std::max<uint64_t>(room / matrix_bytes, 1));
    const Handle<ggml_context, ggml_free> context(ggml_init({(2 * static_cast<size_t>(n) + 1) * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true}));
    ggml_context * c = context.get();
    ggml_tensor * vector = ggml_new_tensor_1d(c, GGML_TYPE_F32, columns);
    ggml_cgraph * graph = ggml_new_graph(c);
    for (int i = 0; i < n; ++i) {
        ggml_tensor * product = ggml_mul_mat(c, ggml_new_tensor_2d(c, GGML_TYPE_F16, columns, rows), vector);
        if (!ggml_backend_dev_supports_op(device.handle, product)) {
            return Error{ErrorCode::model_unsupported, "device '" + device.id + "' does not multiply F16 matrices", {{"device", device.id}}};
        }
        ggml_build_forward_expand(graph, product);
    }
    Handle<ggml_backend, ggml_backend_free> backend(ggml_backend_dev_init(device.handle, nullptr));
    Handle<ggml_backend_buffer, ggml_backend_buffer_free> buffer(backend ? ggml_backend_alloc_ctx_tensors(c, backend.get()) : nullptr);
    if (!buffer) {
        return Error{ErrorCode::out_of_memory, "device '" + device.id + "' has no room for the " + std::to_string((n * matrix_bytes) >> 20) + " MiB that are read", {{"device", device.id}}};
    }
    // Freeing them would wait for a device that is gone, and end the process: leaked then.
    const auto lost = [&](const std::string & why) {
        (void) buffer.release();
        (void) backend.release();
        return Error{ErrorCode::device_lost, "device '" + device.id + "' failed while its bandwidth was measured" + why, {{"device", device.id}}};
    };
    double best = 0.0;
    for (int pass = 0; pass <= passes; ++pass) { // the first one compiles shaders
        if (cancel) {
            return Error{ErrorCode::aborted, "measuring was aborted"};
        }
        const auto begin = std::chrono::steady_clock::now();
        try { // a driver may throw
            if (pass == 0) {
                ggml_backend_buffer_clear(buffer.get(), 0);
            }
            if (ggml_backend_graph_compute(backend.get(), graph) != GGML_STATUS_SUCCESS) {
                return lost("");
            }
            ggml_backend_synchronize(backend.get());
        } catch (const std::exception & e) {
            return lost(std::string(": ") + e.what());
        }
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        best = pass == 0 ? 0.0 : std::max(best, static_cast<double>(n * matrix_bytes) / seconds);
        progress((pass + 1.0) / (passes + 1));
    }
    return best;
}

} // namespace

Result<double> device_read_bandwidth(const std::string & id, const std::function<void(double)> & progress, const std::atomic<bool> & cancel) {
    const auto found = find_gpu_devices({id});
    if (!found) {
        return found.error();
    }
    if (found->empty()) {
        return Error{ErrorCode::device_not_found, "device '" + id + "' is no GPU", {{"device", id}}};
    }
    try { // a driver may throw
        return measure(found->front(), progress, cancel);
    } catch (const std::exception & e) {
        return Error{ErrorCode::device_lost, "device '" + id + "' failed while its bandwidth was measured: " + e.what(), {{"device", id}}};
    }
}

} // namespace ternion
