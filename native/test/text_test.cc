#include "check.h"

#include "engine/text.h"

#include <random>
#include <string>

using ternion::StopMatcher;
using ternion::Utf8Assembler;

namespace {

struct Stopped {
    std::string text;
    bool stopped;
};

Stopped feed(const std::vector<std::string> & stops, const std::string & text, size_t piece) {
    StopMatcher matcher(stops);
    Stopped out{{}, false};
    for (size_t i = 0; i < text.size() && !out.stopped; i += piece) {
        out.stopped = matcher.push(std::string_view(text).substr(i, piece), out.text);
    }
    if (!out.stopped) {
        matcher.finish(out.text);
    }
    return out;
}

void stop_strings() {
    for (size_t piece = 1; piece <= 5; ++piece) {
        CHECK(feed({}, "hello", piece).text == "hello");
        CHECK(feed({"lo"}, "hello world", piece).text == "hel");
        CHECK(feed({"END"}, "an EN, an END!", piece).text == "an EN, an ");
        CHECK(feed({"END"}, "ends in EN", piece).text == "ends in EN"); // a held-back prefix comes out at the end
        CHECK(!feed({"END"}, "ends in EN", piece).stopped);
        CHECK(feed({"abab"}, "aababab", piece).text == "a");   // overlap with itself
        CHECK(feed({"abcd", "bc"}, "xabcd", piece).text == "xa"); // the first to be complete wins
        CHECK(feed({"\xC3\xA9"}, "caf\xC3\xA9!", piece).text == "caf"); // across a character's bytes
        CHECK(feed({""}, "text", piece).text == "text");
    }
}

void utf8() {
    const std::string text = "caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80 end";
    for (size_t piece = 1; piece <= 7; ++piece) {
        Utf8Assembler assembler;
        std::string out;
        for (size_t i = 0; i < text.size(); i += piece) {
            assembler.push(std::string_view(text).substr(i, piece), out);
        }
        assembler.finish(out);
        CHECK(out == text);
    }
    CHECK(ternion::to_utf8("a\xFF" "b") == "a\xEF\xBF\xBD" "b");
    CHECK(ternion::to_utf8("\xE2\x82") == "\xEF\xBF\xBD");         // unfinished: one maximal part
    CHECK(ternion::to_utf8("\xED\xA0\x80") == "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"); // a surrogate
    CHECK(ternion::to_utf8("\xC0\xAF") == "\xEF\xBF\xBD\xEF\xBF\xBD");                 // overlong
}

// Random streams against the plain definition: the earliest end, and of those the longest match.
void random_stops() {
    std::mt19937 random(1);
    for (int round = 0; round < 2000; ++round) {
        const auto word = [&](size_t most) {
            std::string w;
            for (size_t n = 1 + random() % most; n > 0; --n) {
                w += static_cast<char>('a' + random() % 2);
            }
            return w;
        };
        const std::vector<std::string> stops = {word(4), word(5), word(6)};
        const std::string text = word(40);
        std::string expected = text;
        for (size_t end = 1; end <= text.size() && expected == text; ++end) {
            size_t longest = 0;
            for (const std::string & stop : stops) {
                if (std::string_view(text).substr(0, end).ends_with(stop)) {
                    longest = std::max(longest, stop.size());
                }
            }
            if (longest > 0) {
                expected = text.substr(0, end - longest);
                break;
            }
        }
        CHECK(feed(stops, text, 1 + random() % 6).text == expected);
    }
}

} // namespace

int main() {
    stop_strings();
    utf8();
    random_stops();
    return finish_tests();
}
