// llama.cpp's `common` logs through a logger of its own, with a worker thread that writes to stderr. These definitions
// take its place at link time (common/log.cpp is not linked), so that common speaks through log.h like everything else.
#include "log.h"

#include <log.h> // common's; ours is included with quotes

#include <cstdarg>
#include <cstdio>
#include <string>

using ternion::LogLevel;

// Opaque to its users; nothing is ever stored in it.
struct common_log {};

common_log * common_log_main() {
    static common_log log;
    return &log;
}

// Warnings and errors only: common formats whole prompts at debug level, which costs time on the request path.
int common_log_get_verbosity_thold() { return LOG_LEVEL_WARN; }

// Structured lines are for upstream's programs.
bool common_log_get_jsonl() { return false; }
void common_log_add_json(common_log *, const char *, const common_json &) {}

void common_log_set_prefix(common_log *, bool) {}
void common_log_set_timestamps(common_log *, bool) {}
void common_log_default_callback(ggml_log_level, const char *, void *) {}

void common_log_add(common_log *, ggml_log_level level, const char * fmt, ...) {
    va_list args;
    va_start(args, fmt);
    va_list measure;
    va_copy(measure, args);
    const int length = std::vsnprintf(nullptr, 0, fmt, measure);
    va_end(measure);
    std::string line(length > 0 ? static_cast<size_t>(length) : 0, '\0');
    if (length > 0) {
        std::vsnprintf(line.data(), line.size() + 1, fmt, args);
    }
    va_end(args);
    while (!line.empty() && line.back() == '\n') {
        line.pop_back();
    }
    if (line.empty()) {
        return;
    }
    const LogLevel as = level == GGML_LOG_LEVEL_ERROR ? LogLevel::error
                      : level == GGML_LOG_LEVEL_WARN  ? LogLevel::warn
                      : level == GGML_LOG_LEVEL_DEBUG ? LogLevel::debug
                                                      : LogLevel::info;
    ternion::log_line(as, std::move(line));
}
