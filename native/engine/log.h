// The one channel for everything that llama.cpp, ggml, llama.cpp's common and the engine have to say.
// Nothing native writes to stdout or stderr; without a sink, lines are dropped.
#pragma once

#include <functional>
#include <string>

namespace ternion {

enum class LogLevel : int { debug = 0, info = 1, warn = 2, error = 3, none = 4 };

/// Called on whichever thread speaks, one whole line without its newline; must not call back into the log.
using LogSink = std::function<void(LogLevel, std::string line)>;

/// Routes upstream's loggers here. Idempotent, any thread; called before anything else of upstream's is used.
void log_install();

/// Adds a sink for lines of `level` and above; returns its id. Several may be set (one per Node environment).
int log_add_sink(LogLevel level, LogSink sink);
void log_remove_sink(int id);

void log_line(LogLevel level, std::string line);

/// While alive, collects the error lines of this thread, so that a failed call of upstream's can say why it failed.
class LogCapture {
  public:
    LogCapture();
    ~LogCapture();
    LogCapture(const LogCapture &) = delete;
    LogCapture & operator=(const LogCapture &) = delete;

    /// The captured error lines joined by "; ", or `fallback` if there were none.
    std::string text(const std::string & fallback) const;

  private:
    friend void log_line(LogLevel, std::string);
    LogCapture * outer_;
    std::string text_;
};

} // namespace ternion
