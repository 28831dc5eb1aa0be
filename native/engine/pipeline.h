// Bytes of chosen tokens on their way to events: stop strings, UTF-8, reasoning, delivery.
#pragma once

#include "chat.h"
#include "ring.h"
#include "text.h"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace ternion {

/// One per generation. Engine thread, except its construction.
class Pipeline {
  public:
    /// `chat` is null for raw completions.
    Pipeline(const std::vector<std::string> & stops, std::shared_ptr<const RenderedChat> chat);

    /// Takes a token's bytes. True when a stop string is complete: nothing more may be pushed.
    bool push(const std::string & bytes);
    void push_logprobs(LogprobEntry entry) { logprobs_.push_back(std::move(entry)); }

    /// Whether text waits that should be delivered now: the first at once, the rest when `patience` has passed since
    /// the last delivery, 4 KB wait, or the next step is expected to take longer than `patience`.
    bool due(std::chrono::steady_clock::time_point now, std::chrono::steady_clock::duration next_step) const;

    /// Moves what waits into the ring. `last`: nothing will follow, held-back bytes come out.
    /// Returns whether the ring got anything.
    bool flush(Ring & ring, std::chrono::steady_clock::time_point now, bool last);

    /// The token that was pushed last stood inside the thinking block.
    bool thinking() const { return thinking_; }

    /// How long a reader of a stream does not notice waiting: about half a frame.
    static constexpr std::chrono::milliseconds patience{8};

  private:
    void watch_tags(const std::string & bytes);

    StopMatcher stops_;
    Utf8Assembler utf8_;
    std::shared_ptr<const RenderedChat> chat_;
    std::unique_ptr<ChatParser> parser_;
    std::string released_; // past the stop matcher
    std::vector<LogprobEntry> logprobs_;
    std::chrono::steady_clock::time_point delivered_{};
    bool stopped_ = false;
    bool thinking_ = false;
    std::string recent_; // end of the raw text, as long as the longer tag
};

} // namespace ternion
