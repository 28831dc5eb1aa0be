#include "log.h"

#include "ggml.h"
#include "llama.h"

#include <map>
#include <mutex>
#include <utility>

namespace ternion {
namespace {

struct Sinks {
    std::mutex mutex;
    std::map<int, std::pair<LogLevel, LogSink>> entries;
    int next_id = 1;
};

// Leaked on purpose: upstream's static destructors may still log while the process ends.
Sinks & sinks() {
    static Sinks * instance = new Sinks;
    return *instance;
}

thread_local LogCapture * current_capture = nullptr;
// ggml logs in fragments; a line is complete at its newline. GGML_LOG_LEVEL_CONT continues the previous level.
thread_local std::string partial_line;
thread_local LogLevel partial_level = LogLevel::info;

LogLevel from_ggml(ggml_log_level level) {
    switch (level) {
        case GGML_LOG_LEVEL_DEBUG: return LogLevel::debug;
        case GGML_LOG_LEVEL_WARN:  return LogLevel::warn;
        case GGML_LOG_LEVEL_ERROR: return LogLevel::error;
        default:                   return LogLevel::info;
    }
}

void on_ggml_log(ggml_log_level level, const char * text, void *) {
    if (level != GGML_LOG_LEVEL_CONT) {
        if (!partial_line.empty()) {
            log_line(partial_level, std::exchange(partial_line, {}));
        }
        partial_level = from_ggml(level);
    }
    for (const char * p = text; *p; ++p) {
        if (*p == '\n') {
            if (!partial_line.empty()) {
                log_line(partial_level, std::exchange(partial_line, {}));
            }
        } else {
            partial_line += *p;
        }
    }
}

} // namespace

void log_install() {
    static const bool once = [] {
        ggml_log_set(on_ggml_log, nullptr);
        llama_log_set(on_ggml_log, nullptr);
        return true;
    }();
    (void) once;
}

int log_add_sink(LogLevel level, LogSink sink) {
    std::lock_guard lock(sinks().mutex);
    const int id = sinks().next_id++;
    sinks().entries.emplace(id, std::pair(level, std::move(sink)));
    return id;
}

void log_remove_sink(int id) {
    std::lock_guard lock(sinks().mutex);
    sinks().entries.erase(id);
}

void log_line(LogLevel level, std::string line) {
    if (current_capture && level == LogLevel::error) {
        if (!current_capture->text_.empty()) {
            current_capture->text_ += "; ";
        }
        current_capture->text_ += line;
    }
    std::lock_guard lock(sinks().mutex);
    for (auto & [id, entry] : sinks().entries) {
        if (level >= entry.first) {
            entry.second(level, line);
        }
    }
}

LogCapture::LogCapture() : outer_(current_capture) { current_capture = this; }
LogCapture::~LogCapture() { current_capture = outer_; }

std::string LogCapture::text(const std::string & fallback) const { return text_.empty() ? fallback : text_; }

} // namespace ternion
