// The plain structs of lib/native.ts, in and out. One function per struct; nothing is chosen here.
#pragma once

#include "napi_util.h"

#include "engine/backend.h"
#include "engine/engine.h"
#include "engine/gguf_file.h"
#include "engine/gguf_synth.h"
#include "engine/gguf_verify.h"
#include "engine/import.h"
#include "engine/quantize.h"
#include "engine/step_time.h"
#include "engine/kernel_bench.h"
#include "engine/pack_cache.h"

namespace ternion::binding {

EngineOptions read_load_options(napi_env env, napi_value object);
std::vector<StepPoint> read_step_points(napi_env env, napi_value array);
SynthOptions read_synth_options(napi_env env, napi_value object);
ImportOptions read_import_options(napi_env env, napi_value object);
QuantizeOptions read_quantize_options(napi_env env, napi_value object);
KernelBenchOptions read_kernel_bench_options(napi_env env, napi_value object);
GenerateRequest read_request(napi_env env, napi_value object);
std::vector<ChatMessage> read_messages(napi_env env, napi_value array);

napi_value make(napi_env env, const DeviceList & list);
napi_value make(napi_env env, const GgufFile & file);
napi_value make(napi_env env, const std::vector<TensorHealth> & tensors);
napi_value make(napi_env env, const ImportReport & report);
napi_value make(napi_env env, const QuantizeReport & report);
napi_value make(napi_env env, const PackHealth & health);
napi_value make(napi_env env, const ModelInfo & info);
napi_value make(napi_env env, const Stats & stats);
napi_value make(napi_env env, const CacheStats & stats);
napi_value make(napi_env env, const std::optional<ExpertStats> & stats); // undefined for none
napi_value make(napi_env env, const std::vector<Event> & events);
napi_value make(napi_env env, const std::vector<HeldMemory> & held);
napi_value make(napi_env env, const Placement & placement);
napi_value make(napi_env env, const DryRun & run);
napi_value make(napi_env env, const StepTimes & times);
napi_value make_build_info(napi_env env);

} // namespace ternion::binding
