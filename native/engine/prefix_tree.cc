#include "prefix_tree.h"

#include <algorithm>

namespace ternion {

struct PrefixTree::Branch {
    Branch * parent = nullptr;
    size_t begin = 0;
    std::vector<llama_token> tokens;
    std::vector<Holder> holders; // ascending; those of a child are a subset of its parent's (the root has none)
    std::vector<std::unique_ptr<Branch>> children;

    size_t end() const { return begin + tokens.size(); }
    bool has(Holder holder) const { return std::binary_search(holders.begin(), holders.end(), holder); }
    void add(Holder holder) { holders.insert(std::lower_bound(holders.begin(), holders.end(), holder), holder); }
};

PrefixTree::PrefixTree() : root_(std::make_unique<Branch>()) {}
PrefixTree::~PrefixTree() = default;

void PrefixTree::append(Holder holder, Tokens tokens) {
    if (tokens.empty()) {
        return;
    }
    tokens_ += tokens.size();
    const auto found = ends_.find(holder);
    Branch * end = found == ends_.end() ? root_.get() : found->second;
    if (end != root_.get() && end->holders.size() == 1 && end->children.empty()) {
        end->tokens.insert(end->tokens.end(), tokens.begin(), tokens.end());
        return;
    }
    version_++;
    auto branch = std::make_unique<Branch>();
    branch->parent = end;
    branch->begin = end->end();
    branch->tokens.assign(tokens.begin(), tokens.end());
    branch->holders = {holder};
    ends_[holder] = branch.get();
    end->children.push_back(std::move(branch));
}

// Ends the branch at position `at` and moves the rest, with its children, into a child. Paths that end with the branch end
// with the child.
PrefixTree::Branch * PrefixTree::split(Branch * branch, size_t at) {
    if (at == branch->end()) {
        return branch;
    }
    auto rest = std::make_unique<Branch>();
    const auto cut = branch->tokens.begin() + static_cast<std::ptrdiff_t>(at - branch->begin);
    rest->parent = branch;
    rest->begin = at;
    rest->tokens.assign(cut, branch->tokens.end());
    rest->holders = branch->holders;
    rest->children = std::move(branch->children);
    for (const auto & child : rest->children) {
        child->parent = rest.get();
    }
    for (const Holder holder : rest->holders) {
        Branch *& end = ends_.at(holder);
        end = end == branch ? rest.get() : end;
    }
    branch->tokens.erase(cut, branch->tokens.end());
    branch->children.clear();
    branch->children.push_back(std::move(rest));
    version_++;
    return branch;
}

void PrefixTree::share(Holder from, Holder to, size_t length) {
    if (length == 0) {
        return;
    }
    Branch * last = ends_.at(from);
    while (last->begin >= length) {
        last = last->parent;
    }
    last = split(last, length);
    for (Branch * branch = last; branch != root_.get(); branch = branch->parent) {
        branch->add(to);
    }
    ends_[to] = last;
    version_++;
}

void PrefixTree::cut(Holder holder, size_t length) {
    const auto found = ends_.find(holder);
    if (found == ends_.end() || found->second->end() <= length) {
        return;
    }
    version_++;
    Branch * branch = found->second;
    while (branch->begin >= length && branch != root_.get()) {
        Branch * parent = branch->parent;
        branch->holders.erase(std::lower_bound(branch->holders.begin(), branch->holders.end(), holder));
        found->second = parent;
        prune(branch); // may join the parent with another child, which leaves the parent where it is
        branch = parent;
    }
    if (length == 0) {
        ends_.erase(found);
        return;
    }
    if (branch->end() > length) {
        if (branch->holders.size() == 1) {
            tokens_ -= branch->end() - length;
            branch->tokens.resize(length - branch->begin);
        } else {
            split(branch, length);
            Branch * rest = branch->children.front().get();
            rest->holders.erase(std::lower_bound(rest->holders.begin(), rest->holders.end(), holder));
            found->second = branch;
        }
    }
}

// A branch that nobody holds goes; its parent and an only child that the same hold become one.
void PrefixTree::prune(Branch * branch) {
    Branch * parent = branch->parent;
    if (branch->holders.empty()) {
        tokens_ -= branch->tokens.size();
        std::erase_if(parent->children, [&](const std::unique_ptr<Branch> & child) { return child.get() == branch; });
    }
    if (parent != root_.get() && parent->children.size() == 1 && parent->children.front()->holders == parent->holders) {
        const std::unique_ptr<Branch> child = std::move(parent->children.front());
        parent->tokens.insert(parent->tokens.end(), child->tokens.begin(), child->tokens.end());
        parent->children = std::move(child->children);
        for (const auto & grandchild : parent->children) {
            grandchild->parent = parent;
        }
        for (const Holder holder : parent->holders) {
            Branch *& end = ends_.at(holder);
            end = end == child.get() ? parent : end;
        }
    }
}

size_t PrefixTree::length(Holder holder) const {
    const auto found = ends_.find(holder);
    return found == ends_.end() ? 0 : found->second->end();
}

size_t PrefixTree::shared(Holder holder) const {
    const auto found = ends_.find(holder);
    if (found == ends_.end()) {
        return 0;
    }
    const Branch * branch = found->second;
    while (branch != root_.get() && branch->holders.size() == 1) {
        branch = branch->parent;
    }
    return branch->end();
}

std::vector<PrefixTree::Match> PrefixTree::match(Tokens tokens) const {
    std::vector<Match> found;
    std::vector<const Branch *> open = {root_.get()};
    while (!open.empty()) {
        const Branch * branch = open.back();
        open.pop_back();
        const Tokens rest = tokens.subspan(std::min(tokens.size(), branch->begin));
        const auto differ = std::mismatch(branch->tokens.begin(), branch->tokens.end(), rest.begin(), rest.end()).first;
        const size_t length = branch->begin + static_cast<size_t>(differ - branch->tokens.begin());
        const bool whole = length == branch->end();
        // Those who go on below are counted there if they agree in more.
        for (const Holder holder : branch->holders) {
            if (length > branch->begin) {
                std::erase_if(found, [&](const Match & match) { return match.holder == holder; });
                found.push_back({holder, length});
            }
        }
        if (whole) {
            for (const auto & child : branch->children) {
                open.push_back(child.get());
            }
        }
    }
    std::stable_sort(found.begin(), found.end(), [](const Match & a, const Match & b) { return a.length > b.length; });
    return found;
}

std::vector<PrefixTree::Node> PrefixTree::nodes() const {
    std::vector<Node> nodes;
    std::vector<const Branch *> open = {root_.get()};
    for (size_t i = 0; i < open.size(); ++i) {
        const Branch * branch = open[i];
        if (branch != root_.get()) {
            nodes.push_back({branch->begin, branch->tokens.size(), branch->holders});
        }
        for (const auto & child : branch->children) {
            open.push_back(child.get());
        }
    }
    return nodes;
}

uint64_t PrefixTree::shared_tokens() const {
    uint64_t sum = 0;
    for (const Node & node : nodes()) {
        sum += node.holders.size() > 1 ? node.length : 0;
    }
    return sum;
}

} // namespace ternion
