#include "upstream_assertions.h"

#include "ggml.h"

#include <cstdio>
#include <stdexcept>
#include <string>
#include <utility>

namespace ternion {
namespace {

thread_local bool catching = false;

// Thrown through ggml's C, which has unwind tables for that (cmake/llama.cmake).
void on_failed_assertion(const char * message) {
    if (!catching) {
        std::fprintf(stderr, "%s\n", message); // as ggml does; abort() follows
        return;
    }
    std::string text = message; // "/some/path/src/llama-model.cpp:1: GGML_ASSERT(n > 0) failed"
    const size_t line = text.find(": ");
    const size_t name = text.find_last_of("/\\", line);
    throw std::runtime_error("an assertion failed: " + (line == std::string::npos || name == std::string::npos ? text : text.substr(name + 1)));
}

} // namespace

CatchAssertions::CatchAssertions() : outer_(std::exchange(catching, true)) {}
CatchAssertions::~CatchAssertions() { catching = outer_; }
CatchAssertions::Pause::Pause() : outer_(std::exchange(catching, false)) {}
CatchAssertions::Pause::~Pause() { catching = outer_; }

void CatchAssertions::for_rest_of_thread() { catching = true; }
void CatchAssertions::install() { ggml_set_abort_callback(on_failed_assertion); }

llama_context * make_llama_context(llama_model * model, const llama_context_params & params) {
    const CatchAssertions caught;
    return llama_init_from_model(model, params);
}

bool means_no_memory(const std::string & why) {
    const auto says = [&](const char * words) { return why.find(words) != std::string::npos; };
    // ggml asserts that its arenas, and the tables of its quantisers, are there.
    for (const char * words : {"failed to alloc", "attempted to alloc", "bad_alloc", "mem_buffer", "n_per_i", "dist2", "(offsets)", "OutOfDeviceMemory", "OutOfHostMemory"}) {
        if (says(words)) {
            return true;
        }
    }
    return says("alloc") && !says("an assertion failed");
}

Error no_context(const std::string & what, const std::string & why) {
    return {means_no_memory(why) ? ErrorCode::out_of_memory : ErrorCode::model_unsupported, what + why, {}};
}

} // namespace ternion
