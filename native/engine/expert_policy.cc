#include "expert_policy.h"

#include <algorithm>
#include <cmath>

namespace ternion {
namespace {

// Ahead by this many standard deviations of the difference of two counts, which are Poisson's: the root of their sum.
constexpr double margin = 1.0;
// An upload reads as much of host memory as a miss does, but nobody waits for it.
constexpr double exchange_cost = 0.25; // hits
// Over so many tokens are half-lives compared; another one has to be better by this much to be followed.
constexpr double compared_tokens = 512.0;
constexpr double better = 1.02;

} // namespace

ExpertPolicy::ExpertPolicy(uint32_t experts, uint32_t slots)
    : slot_of_(experts, nobody), expert_in_(std::min(slots, experts), nobody), has_(experts, false), counts_(experts, 0) {
    for (Rule & rule : rules_) {
        rule.weight.assign(experts, 0.0);
        rule.held.assign(expert_in_.size(), nobody);
        rule.has.assign(experts, false);
    }
}

void ExpertPolicy::token(std::span<const int32_t> experts) {
    tokens_++;
    for (const int32_t expert : experts) {
        counts_[static_cast<size_t>(expert)]++;
    }
    if (expert_in_.empty()) {
        return;
    }
    for (size_t i = 0; i < rules_.size(); ++i) {
        play(rules_[i], half_lives[i], experts);
    }
    for (size_t i = 0; i < rules_.size(); ++i) {
        followed_ = rules_[i].worth > better * rules_[followed_].worth ? i : followed_;
    }
}

void ExpertPolicy::play(Rule & rule, double half_life, std::span<const int32_t> experts) {
    constexpr double largest_unit = 1e100;
    rule.unit *= std::exp2(1.0 / half_life);
    if (rule.unit > largest_unit) {
        for (double & weight : rule.weight) {
            weight /= rule.unit;
        }
        rule.unit = 1.0;
    }
    double worth = 0.0;
    for (const int32_t expert : experts) {
        worth += rule.has[static_cast<size_t>(expert)] ? 1.0 : 0.0;
        rule.weight[static_cast<size_t>(expert)] += rule.unit;
    }
    if (const auto exchange = best(rule, half_life, rule.held, rule.has)) {
        int32_t & holder = rule.held[exchange->slot];
        if (holder >= 0) {
            rule.has[static_cast<size_t>(holder)] = false;
        }
        holder = static_cast<int32_t>(exchange->expert);
        rule.has[exchange->expert] = true;
        worth -= exchange_cost;
    }
    rule.worth += (worth - rule.worth) / std::min(compared_tokens, static_cast<double>(tokens_));
}

std::optional<ExpertPolicy::Exchange> ExpertPolicy::best() const {
    return best(rules_[followed_], half_lives[followed_], expert_in_, has_);
}

std::optional<ExpertPolicy::Exchange> ExpertPolicy::best(const Rule & rule, double half_life, const std::vector<int32_t> & held, const std::vector<bool> & has) const {
    const size_t none = rule.weight.size();
    size_t candidate = none;
    for (size_t e = 0; e < none; ++e) {
        if (!has[e] && rule.weight[e] > 0.0 && (candidate == none || rule.weight[e] > rule.weight[candidate])) {
            candidate = e;
        }
    }
    if (candidate == none) {
        return std::nullopt;
    }
    const double wanted = rule.weight[candidate] / rule.unit;
    std::optional<Exchange> best;
    double least = 0.0;
    for (size_t slot = 0; slot < held.size(); ++slot) {
        if (held[slot] == loading) {
            continue;
        }
        if (held[slot] == nobody) {
            return Exchange{static_cast<uint32_t>(candidate), static_cast<uint32_t>(slot), wanted / half_life};
        }
        const double kept = rule.weight[static_cast<size_t>(held[slot])] / rule.unit;
        if (!best || kept < least) {
            least = kept;
            best = Exchange{static_cast<uint32_t>(candidate), static_cast<uint32_t>(slot), (wanted - kept) / half_life};
        }
    }
    return best && wanted - least > margin * std::sqrt(wanted + least) ? best : std::nullopt;
}

void ExpertPolicy::begin(const Exchange & exchange) {
    int32_t & holder = expert_in_[exchange.slot];
    if (holder >= 0) {
        slot_of_[static_cast<size_t>(holder)] = nobody;
        has_[static_cast<size_t>(holder)] = false;
    }
    holder = loading;
    has_[exchange.expert] = true;
}

void ExpertPolicy::finish(const Exchange & exchange) {
    expert_in_[exchange.slot] = static_cast<int32_t>(exchange.expert);
    slot_of_[exchange.expert] = static_cast<int32_t>(exchange.slot);
}

void ExpertPolicy::give_up(const Exchange & exchange) {
    expert_in_[exchange.slot] = nobody;
    has_[exchange.expert] = false;
}

} // namespace ternion
