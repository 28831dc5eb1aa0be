#include "text.h"

#include <algorithm>
#include <queue>

namespace ternion {

// ---- StopMatcher ----------------------------------------------------------------------------------------------------

StopMatcher::StopMatcher(const std::vector<std::string> & stops) : nodes_(1) {
    for (const std::string & stop : stops) {
        if (stop.empty()) {
            continue;
        }
        int node = 0;
        for (const unsigned char byte : stop) {
            const auto found = nodes_[node].next.find(byte);
            if (found != nodes_[node].next.end()) {
                node = found->second;
                continue;
            }
            const int child = static_cast<int>(nodes_.size());
            nodes_[node].next.emplace(byte, child);
            nodes_.push_back({.next = {}, .fail = 0, .depth = nodes_[node].depth + 1, .match = -1});
            node = child;
        }
        nodes_[node].match = static_cast<int>(stops_.size());
        stops_.push_back(stop);
    }
    std::queue<int> breadth_first;
    for (const auto & [byte, child] : nodes_[0].next) {
        breadth_first.push(child);
    }
    while (!breadth_first.empty()) {
        const int node = breadth_first.front();
        breadth_first.pop();
        for (const auto & [byte, child] : nodes_[node].next) {
            nodes_[child].fail = step(nodes_[node].fail, byte);
            if (nodes_[child].match < 0) {
                nodes_[child].match = nodes_[nodes_[child].fail].match;
            }
            breadth_first.push(child);
        }
    }
}

int StopMatcher::step(int node, unsigned char byte) const {
    for (;;) {
        const auto found = nodes_[node].next.find(byte);
        if (found != nodes_[node].next.end()) {
            return found->second;
        }
        if (node == 0) {
            return 0;
        }
        node = nodes_[node].fail;
    }
}

bool StopMatcher::push(std::string_view bytes, std::string & out) {
    if (!matched_.empty()) {
        return true;
    }
    if (stops_.empty()) {
        out.append(bytes);
        return false;
    }
    for (const char c : bytes) {
        node_ = step(node_, static_cast<unsigned char>(c));
        held_ += c;
        const size_t keep = static_cast<size_t>(nodes_[node_].depth);
        if (nodes_[node_].match >= 0) {
            matched_ = stops_[static_cast<size_t>(nodes_[node_].match)];
            out.append(held_, 0, held_.size() - matched_.size());
            held_.clear();
            return true;
        }
        if (held_.size() > keep) {
            out.append(held_, 0, held_.size() - keep);
            held_.erase(0, held_.size() - keep);
        }
    }
    return false;
}

void StopMatcher::finish(std::string & out) {
    out.append(held_);
    held_.clear();
}

// ---- UTF-8 ----------------------------------------------------------------------------------------------------------

namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";

struct Scan {
    size_t length; // bytes that belong together
    enum { valid, invalid, unfinished } kind;
};

// The character, ill-formed part or unfinished character at the start of `s` (not empty).
Scan scan(std::string_view s) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
    const unsigned char lead = byte(0);
    if (lead < 0x80) {
        return {1, Scan::valid};
    }
    const size_t need = lead >= 0xC2 && lead <= 0xDF ? 2 : lead >= 0xE0 && lead <= 0xEF ? 3 : lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
    if (need == 0) {
        return {1, Scan::invalid};
    }
    for (size_t i = 1; i < need; ++i) {
        if (i >= s.size()) {
            return {i, Scan::unfinished};
        }
        unsigned char low = 0x80;
        unsigned char high = 0xBF;
        if (i == 1) { // no overlong forms, no surrogates, nothing above U+10FFFF
            if (lead == 0xE0) low = 0xA0;
            if (lead == 0xED) high = 0x9F;
            if (lead == 0xF0) low = 0x90;
            if (lead == 0xF4) high = 0x8F;
        }
        if (byte(i) < low || byte(i) > high) {
            return {i, Scan::invalid};
        }
    }
    return {need, Scan::valid};
}

} // namespace

void Utf8Assembler::push(std::string_view bytes, std::string & out) {
    std::string joined;
    if (!tail_.empty()) {
        joined = tail_;
        joined.append(bytes);
        tail_.clear();
        bytes = joined;
    }
    while (!bytes.empty()) {
        const auto ascii = std::find_if(bytes.begin(), bytes.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
        out.append(bytes.begin(), ascii);
        bytes.remove_prefix(static_cast<size_t>(ascii - bytes.begin()));
        if (bytes.empty()) {
            break;
        }
        const Scan next = scan(bytes);
        if (next.kind == Scan::unfinished) {
            tail_.assign(bytes);
            break;
        }
        out.append(next.kind == Scan::valid ? bytes.substr(0, next.length) : replacement);
        bytes.remove_prefix(next.length);
    }
}

void Utf8Assembler::finish(std::string & out) {
    if (!tail_.empty()) {
        out.append(replacement);
        tail_.clear();
    }
}

std::string to_utf8(std::string_view bytes) {
    std::string out;
    Utf8Assembler assembler;
    assembler.push(bytes, out);
    assembler.finish(out);
    return out;
}

} // namespace ternion
