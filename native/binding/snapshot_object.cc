#include "snapshot_object.h"

#include "environment.h"
#include "on_io.h"

#include <cstring>

namespace ternion::binding {
namespace {

constexpr napi_type_tag snapshot_tag = {0x7465726e696f6e02ULL, 0x736e617073686f74ULL};

struct Holder {
    SnapshotPtr snapshot;
    ReportedMemory memory;
};

SnapshotPtr of(napi_env env, const Call & call) { return to_snapshot(env, call.self); }

void settle_snapshot(const Promise & settled, Snapshot snapshot) {
    settled.resolve([shared = std::make_shared<const Snapshot>(std::move(snapshot))](napi_env e) { return make_snapshot(e, shared); });
}

napi_value save(napi_env env, const Call & call) {
    return on_io(
        env, "saving the snapshot", [snapshot = of(env, call), path = to_string(env, call[0])] { return save_snapshot(*snapshot, path); }, resolve_nothing);
}

napi_value serialize(napi_env env, const Call & call) {
    return on_io(
        env, "writing the snapshot",
        [snapshot = of(env, call)]() -> Result<std::shared_ptr<Bytes>> {
            try {
                auto bytes = std::make_shared<Bytes>(Bytes::of(encoded_bytes(*snapshot, snapshot->state.size)));
                encode(*snapshot, bytes->data.get());
                return bytes;
            } catch (const std::bad_alloc &) {
                return Error{ErrorCode::out_of_memory, "there is no memory for another copy of the snapshot"};
            }
        },
        [](const Promise & settled, const std::shared_ptr<Bytes> & bytes) {
            settled.resolve([bytes](napi_env e) { return make_bytes(e, bytes->data.get(), bytes->size); });
        });
}

// Gives the memory back at once, rather than when garbage is collected.
napi_value free_snapshot(napi_env env, const Call & call) {
    void * data = nullptr;
    to_snapshot(env, call.self);
    if (napi_unwrap(env, call.self, &data) == napi_ok) {
        auto * holder = static_cast<Holder *>(data);
        holder->snapshot = std::make_shared<const Snapshot>();
        holder->memory.report(env, 0);
    }
    return nullptr;
}

} // namespace

napi_value make_snapshot(napi_env env, SnapshotPtr snapshot) {
    napi_value object = make_object(env);
    set(env, object, "tokens", static_cast<double>(snapshot->tokens.size()));
    set(env, object, "bytes", static_cast<double>(encoded_bytes(*snapshot, snapshot->state.size)));
    set(env, object, "conversation", snapshot->conversation);
    napi_value settings = make_object(env);
    for (const Setting & setting : snapshot->settings) {
        set(env, settings, setting.name.c_str(), setting.value);
    }
    set(env, object, "settings", settings);
    set(env, object, "save", make_function(env, "save", guarded<save>));
    set(env, object, "serialize", make_function(env, "serialize", guarded<serialize>));
    set(env, object, "free", make_function(env, "free", guarded<free_snapshot>));
    auto * holder = new Holder{std::move(snapshot), {}};
    holder->memory.report(env, holder->snapshot->state.size);
    const auto collected = [](napi_env e, void * data, void *) {
        static_cast<Holder *>(data)->memory.report(e, 0);
        delete static_cast<Holder *>(data);
    };
    napi_wrap(env, object, holder, collected, nullptr, nullptr);
    napi_type_tag_object(env, object, &snapshot_tag);
    return object;
}

SnapshotPtr to_snapshot(napi_env env, napi_value object) {
    bool ours = false;
    void * data = nullptr;
    if (napi_check_object_type_tag(env, object, &snapshot_tag, &ours) != napi_ok || !ours || napi_unwrap(env, object, &data) != napi_ok) {
        throw ArgumentError{"native binding: not a NativeSnapshot"};
    }
    return static_cast<Holder *>(data)->snapshot;
}

napi_value load_snapshot_file(napi_env env, const Call & call) {
    return on_io(env, "reading the snapshot", [path = to_string(env, call[0])] { return load_snapshot(path); }, settle_snapshot);
}

napi_value decode_snapshot(napi_env env, const Call & call) {
    const auto bytes = std::make_shared<std::vector<uint8_t>>(to_bytes(env, call[0]));
    return on_io(env, "reading the snapshot", [bytes] { return decode(bytes->data(), bytes->size()); }, settle_snapshot);
}

} // namespace ternion::binding
