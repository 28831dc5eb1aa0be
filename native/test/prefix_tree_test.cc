// The radix tree against the plainest model of it: every holder's cells as a list of numbers.
#include "check.h"

#include "engine/prefix_tree.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>

using namespace ternion;

namespace {

using Tokens = std::vector<llama_token>;

/// A cell has an identity; holders that share have the same ones.
struct Model {
    struct Cell {
        int id;
        llama_token token;
        auto operator<=>(const Cell &) const = default;
    };
    std::map<int, std::vector<Cell>> paths;
    int next = 0;

    void append(int holder, const Tokens & tokens) {
        for (const llama_token token : tokens) {
            paths[holder].push_back({next++, token});
        }
    }
    size_t cells() const {
        std::set<int> ids;
        for (const auto & [holder, path] : paths) {
            for (const Cell & cell : path) {
                ids.insert(cell.id);
            }
        }
        return ids.size();
    }
    size_t shared_by(int holder, bool all) const {
        size_t longest = 0, total = 0;
        std::map<int, int> count;
        for (const auto & [other, path] : paths) {
            for (const Cell & cell : path) {
                count[cell.id]++;
            }
        }
        for (const auto & [id, n] : count) {
            total += n > 1;
        }
        if (all) {
            return total;
        }
        const auto found = paths.find(holder);
        if (found != paths.end()) {
            while (longest < found->second.size() && count[found->second[longest].id] > 1) {
                longest++;
            }
        }
        return longest;
    }
    size_t agrees(int holder, const Tokens & tokens) const {
        const auto & path = paths.at(holder);
        size_t n = 0;
        while (n < path.size() && n < tokens.size() && path[n].token == tokens[n]) {
            n++;
        }
        return n;
    }
};

void three_depths() {
    PrefixTree tree;
    tree.append(0, Tokens{1, 2, 3, 4, 5, 6});
    tree.share(0, 1, 4);
    tree.append(1, Tokens{7, 8});
    tree.share(0, 2, 2);
    tree.append(2, Tokens{9});
    tree.share(1, 3, 5);
    CHECK(tree.tokens() == 6 + 2 + 1);
    CHECK(tree.shared(0) == 4 && tree.shared(1) == 5 && tree.shared(2) == 2 && tree.shared(3) == 5);
    const auto nodes = tree.nodes();
    CHECK(nodes.size() == 6); // [0,2) [2,4) [4,6) of 0, [4,5) [5,6) of 1, [2,3) of 2
    CHECK(nodes.front().holders == (std::vector<PrefixTree::Holder>{0, 1, 2, 3}));
    const auto match = tree.match(Tokens{1, 2, 3, 4, 7, 9});
    CHECK(match.size() == 4 && match.front().length == 5);
    tree.remove(0);
    tree.remove(1);
    CHECK(tree.tokens() == 6);
    tree.remove(3);
    tree.remove(2);
    CHECK(tree.tokens() == 0 && tree.nodes().empty());
}

void random_operations(uint32_t seed) {
    std::mt19937 random(seed);
    PrefixTree tree;
    Model model;
    const auto tokens = [&](size_t n) {
        Tokens list(n);
        std::generate(list.begin(), list.end(), [&] { return static_cast<llama_token>(random() % 2); });
        return list;
    };
    for (int i = 0; i < 2000; ++i) {
        const int holder = static_cast<int>(random() % 8), other = static_cast<int>(random() % 8);
        const size_t length = tree.length(holder);
        switch (random() % 4) {
            case 0:
            case 1: {
                const Tokens more = tokens(random() % 6);
                tree.append(holder, more);
                model.append(holder, more);
                break;
            }
            case 2: {
                const size_t keep = random() % 3 == 0 ? 0 : random() % (length + 1);
                tree.cut(holder, keep);
                model.paths[holder].resize(std::min(length, keep));
                break;
            }
            default:
                if (length > 0 && holder != other) {
                    tree.remove(other);
                    const size_t n = 1 + random() % length;
                    tree.share(holder, other, n);
                    const auto & path = model.paths[holder];
                    model.paths[other] = {path.begin(), path.begin() + static_cast<std::ptrdiff_t>(n)};
                }
        }
        std::erase_if(model.paths, [](const auto & entry) { return entry.second.empty(); });
        CHECK(tree.tokens() == model.cells());
        CHECK(tree.shared_tokens() == model.shared_by(0, true));
        const Tokens asked = tokens(8);
        size_t agreeing = 0;
        for (const auto & [h, path] : model.paths) {
            CHECK(tree.length(h) == path.size());
            CHECK(tree.shared(h) == model.shared_by(h, false));
            agreeing += model.agrees(h, asked) > 0;
        }
        const auto match = tree.match(asked);
        CHECK(match.size() == agreeing);
        for (const auto & [h, n] : match) {
            CHECK(model.agrees(h, asked) == n);
        }
        CHECK(std::is_sorted(match.begin(), match.end(), [](const auto & a, const auto & b) { return a.length > b.length; }));
        size_t sum = 0;
        for (const auto & node : tree.nodes()) {
            CHECK(!node.holders.empty() && node.length > 0);
            sum += node.length;
        }
        CHECK(sum == tree.tokens());
    }
}

} // namespace

int main() {
    three_depths();
    for (uint32_t seed = 1; seed <= 20; ++seed) {
        random_operations(seed);
    }
    return finish_tests();
}
