// The NativeSnapshot of lib/native.ts.
#pragma once

#include "napi_util.h"

#include "engine/generation.h"

namespace ternion::binding {

napi_value make_snapshot(napi_env env, SnapshotPtr snapshot);
SnapshotPtr to_snapshot(napi_env env, napi_value object);

// Functions of the module.
napi_value load_snapshot_file(napi_env env, const Call & call);
napi_value decode_snapshot(napi_env env, const Call & call);

} // namespace ternion::binding
