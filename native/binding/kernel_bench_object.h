// The NativeKernelBench of lib/native.ts.
#pragma once

#include "napi_util.h"

namespace ternion::binding {

/// What can be measured: names of kernels and types.
napi_value make_kernel_facts(napi_env env, const Call & call);

/// A task whose value is a NativeKernelBench.
napi_value make_kernel_bench(napi_env env, const Call & call);

} // namespace ternion::binding
