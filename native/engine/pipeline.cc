#include "pipeline.h"

#include <algorithm>

namespace ternion {

Pipeline::Pipeline(const std::vector<std::string> & stops, std::shared_ptr<const RenderedChat> chat)
    : stops_(stops), chat_(std::move(chat)) {
    if (chat_ && !chat_->plain) {
        parser_ = std::make_unique<ChatParser>(chat_);
        watch_tags(chat_->generation_prompt);
    }
}

// Counts reasoning tokens only; what is reasoning in the result is the parser's to say.
void Pipeline::watch_tags(const std::string & bytes) {
    if (!chat_ || chat_->thinking_start.empty() || chat_->thinking_end.empty()) {
        return;
    }
    recent_ += bytes;
    const std::string & tag = thinking_ ? chat_->thinking_end : chat_->thinking_start;
    const size_t found = recent_.rfind(tag);
    if (found != std::string::npos) {
        thinking_ = !thinking_;
        recent_.erase(0, found + tag.size());
        watch_tags({});
        return;
    }
    const size_t keep = std::max(chat_->thinking_start.size(), chat_->thinking_end.size());
    if (recent_.size() > keep) {
        recent_.erase(0, recent_.size() - keep);
    }
}

bool Pipeline::push(const std::string & bytes) {
    stopped_ = stops_.push(bytes, released_);
    watch_tags(bytes);
    return stopped_;
}

bool Pipeline::due(std::chrono::steady_clock::time_point now, std::chrono::steady_clock::duration next_step) const {
    if (released_.empty() && logprobs_.empty()) {
        return false;
    }
    return now - delivered_ >= patience || next_step > patience || released_.size() >= 4096;
}

bool Pipeline::flush(Ring & ring, std::chrono::steady_clock::time_point now, bool last) {
    if (last && !stopped_) {
        stops_.finish(released_);
    }
    std::string text;
    utf8_.push(released_, text);
    released_.clear();
    if (last) {
        utf8_.finish(text);
    }
    bool pushed = false;
    const auto send = [&](Event::Kind kind, std::string part) {
        if (!part.empty()) {
            Event event{.kind = kind};
            event.text = std::move(part);
            ring.push(std::move(event));
            pushed = true;
        }
    };
    if (parser_) {
        ChatDelta delta = parser_->feed(text, last);
        send(Event::Kind::reasoning, std::move(delta.reasoning));
        send(Event::Kind::text, std::move(delta.content));
    } else {
        send(Event::Kind::text, std::move(text));
    }
    if (!logprobs_.empty()) {
        Event event{.kind = Event::Kind::logprobs};
        event.logprobs = std::exchange(logprobs_, {});
        ring.push(std::move(event));
        pushed = true;
    }
    if (pushed) {
        delivered_ = now;
    }
    return pushed;
}

} // namespace ternion
