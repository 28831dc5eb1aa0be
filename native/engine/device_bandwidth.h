// How fast a GPU reads its memory while it multiplies, which is what decoding does.
#pragma once

#include "error.h"

#include <atomic>
#include <functional>
#include <string>

namespace ternion {

/// Bytes per second of products of F16 matrices with one vector, a gibibyte of them or an eighth of the free memory in one graph; the
/// best of eight passes. Errors: device_not_found; out_of_memory; model_unsupported if the device does not multiply F16; device_lost;
/// aborted. Blocks; `cancel` may be set by any thread.
Result<double> device_read_bandwidth(const std::string & id, const std::function<void(double)> & progress, const std::atomic<bool> & cancel);

} // namespace ternion
