#include "ring.h"

#include <utility>

namespace ternion {

void Ring::push(Event event) {
    std::lock_guard lock(mutex_);
    const bool text = event.kind == Event::Kind::text || event.kind == Event::Kind::reasoning;
    bytes_ += event.text.size();
    for (const LogprobEntry & entry : event.logprobs) {
        bytes_ += 128 * (1 + entry.top_text.size()); // about what the strings and structs take
    }
    if (!events_.empty() && events_.back().kind == event.kind) {
        Event & last = events_.back();
        if (text) {
            last.text += event.text;
            return;
        }
        if (event.kind == Event::Kind::progress) {
            last = std::move(event);
            return;
        }
    }
    events_.push_back(std::move(event));
}

std::vector<Event> Ring::drain(bool & was_full) {
    std::lock_guard lock(mutex_);
    was_full = bytes_ >= high_water_bytes;
    bytes_ = 0;
    return std::exchange(events_, {});
}

bool Ring::full() const {
    std::lock_guard lock(mutex_);
    return bytes_ >= high_water_bytes;
}

} // namespace ternion
