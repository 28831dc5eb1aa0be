// Which of a layer's experts are worth a slot in device memory: those in frequent recent use.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace ternion {

/// Bookkeeping for one layer; knows no tensors. One thread at a time.
///
/// An expert's weight is the number of tokens that chose it, each token counting half as much once a half-life of more tokens has
/// passed. An expert takes another's slot if it is ahead by more than chance explains. How recent use has to be differs from model to
/// model and with what is written: each of `half_lives` is played along, with slots that are only imagined, and the one whose hits,
/// less what its exchanges cost, were the most of late is followed.
class ExpertPolicy {
  public:
    static constexpr std::array<double, 4> half_lives = {5.0, 20.0, 80.0, 320.0}; // tokens

    ExpertPolicy(uint32_t experts, uint32_t slots);

    /// A token chose these.
    void token(std::span<const int32_t> experts);
    /// The slot that holds the expert, complete; -1 if none does.
    int32_t slot_of(uint32_t expert) const { return slot_of_[expert]; }

    struct Exchange {
        uint32_t expert = 0, slot = 0;
        double gain = 0.0; // hits per token, about
    };
    /// The best exchange that pays, if any; `begin` makes its slot nobody's, `finish` the new expert's, `give_up` leaves it free.
    std::optional<Exchange> best() const;
    void begin(const Exchange & exchange);
    void finish(const Exchange & exchange);
    void give_up(const Exchange & exchange);

    uint32_t experts() const { return static_cast<uint32_t>(slot_of_.size()); }
    uint32_t slots() const { return static_cast<uint32_t>(expert_in_.size()); }
    uint64_t tokens() const { return tokens_; }
    const std::vector<uint64_t> & counts() const { return counts_; } // by expert, since the start
    double half_life() const { return half_lives[followed_]; }

  private:
    static constexpr int32_t nobody = -1, loading = -2;

    /// Weights by one half-life, and who would have a slot by them.
    struct Rule {
        std::vector<double> weight; // by expert, in units of `unit`
        double unit = 1.0;          // what one token weighs now; grows, so that older ones weigh less
        std::vector<int32_t> held;  // by imagined slot
        std::vector<bool> has;      // by expert
        double worth = 0.0;         // hits less the cost of exchanges, per token, of late
    };

    void play(Rule & rule, double half_life, std::span<const int32_t> experts);
    std::optional<Exchange> best(const Rule & rule, double half_life, const std::vector<int32_t> & held, const std::vector<bool> & has) const;

    std::vector<int32_t> slot_of_;   // by expert: its slot, or nobody
    std::vector<int32_t> expert_in_; // by slot: its expert, nobody or loading
    std::vector<bool> has_;          // by expert: has a slot, or will
    std::array<Rule, half_lives.size()> rules_;
    size_t followed_ = 1;
    std::vector<uint64_t> counts_;
    uint64_t tokens_ = 0;
};

} // namespace ternion
