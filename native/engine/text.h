// Bytes of tokens on their way to text: stop strings first, UTF-8 boundaries second.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace ternion {

/// Finds the first of many stop strings in a byte stream and holds back only what may still become one.
/// An Aho-Corasick automaton: one amortised step per byte, whatever the number of stop strings.
class StopMatcher {
  public:
    /// Empty strings are ignored.
    explicit StopMatcher(const std::vector<std::string> & stops = {});

    /// Appends to `out` every byte that can no longer belong to a stop string. Returns true when one is complete:
    /// the match and all that follows it are dropped, and the matcher accepts nothing more.
    bool push(std::string_view bytes, std::string & out);

    /// The stream ended without a stop string: what was held back is text after all.
    void finish(std::string & out);

  private:
    struct Node {
        std::map<unsigned char, int> next;
        int fail = 0;
        int depth = 0;
        int match = -1; // longest stop string that ends here
    };

    int step(int node, unsigned char byte) const;

    std::vector<std::string> stops_;
    std::vector<Node> nodes_;
    int node_ = 0;
    std::string held_;
    std::string matched_;
};

/// Turns a byte stream that may be cut anywhere into a stream of well-formed UTF-8.
/// Bytes that can never become a character are replaced by U+FFFD, one per maximal ill-formed part (Unicode 15, 3.9).
class Utf8Assembler {
  public:
    void push(std::string_view bytes, std::string & out);
    void finish(std::string & out);
    bool empty() const { return tail_.empty(); }

  private:
    std::string tail_; // at most three bytes of an unfinished character
};

/// `bytes` as well-formed UTF-8.
std::string to_utf8(std::string_view bytes);

} // namespace ternion
