// Which sequences hold which cells: a radix tree over token ids.
#pragma once

#include "llama.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

namespace ternion {

/// How many tokens from the beginning are the same.
inline size_t agreeing(std::span<const llama_token> a, std::span<const llama_token> b) {
    return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

/// Every holder has one path from the root. A node stands for cells, so a holder that appends starts a branch of its own, also
/// where another one has the same tokens; two holders are on one node only after share(). Not thread-safe.
class PrefixTree {
  public:
    using Holder = int32_t;
    using Tokens = std::span<const llama_token>;

    PrefixTree();
    ~PrefixTree();
    PrefixTree(const PrefixTree &) = delete;
    PrefixTree & operator=(const PrefixTree &) = delete;

    /// Makes the holder's path longer; one that is unknown starts at the root.
    void append(Holder holder, Tokens tokens);
    /// `to`, which must hold nothing, gets the first `length` of the path of `from`.
    void share(Holder from, Holder to, size_t length);
    /// The holder keeps the first `length`; with 0 it is forgotten.
    void cut(Holder holder, size_t length);
    void remove(Holder holder) { cut(holder, 0); }

    /// Length of the holder's path.
    size_t length(Holder holder) const;
    /// How much from the path's beginning another holder is on, too.
    size_t shared(Holder holder) const;

    struct Match {
        Holder holder;
        size_t length; // tokens from the beginning that agree
    };
    /// For every holder that agrees with `tokens` in at least one: how far. Longest first.
    std::vector<Match> match(Tokens tokens) const;

    struct Node {
        size_t begin, length;
        std::vector<Holder> holders; // ascending
    };
    /// All nodes, parents before children.
    std::vector<Node> nodes() const;

    /// Tokens of all nodes: cells in use.
    uint64_t tokens() const { return tokens_; }
    /// Of those: on nodes with two holders or more.
    uint64_t shared_tokens() const;
    /// Changes when nodes or their holders change, not when one only grows.
    uint64_t version() const { return version_; }

  private:
    struct Branch;
    Branch * split(Branch * branch, size_t at);
    void prune(Branch * branch);

    const std::unique_ptr<Branch> root_;
    std::map<Holder, Branch *> ends_; // where each path ends; a path always ends where its last branch does
    uint64_t tokens_ = 0, version_ = 0;
};

} // namespace ternion
