// Random operations on sessions against the plainest model of them: a list of tokens, prefilled anew for every check.
//
//   sessions_test [MODEL [DEVICE [KV TYPE [OPERATIONS [SEED [KERNELS]]]]]]
//
// Decoded in batches of another shape, sums round differently: where the reference's two best candidates are closer than 1e-3
// either is right. Such ties are counted: one in a thousand, no more.
// Kernels that round activations make more of rounding: the weights are given 32 bits, with which nothing rounds them.
#include "walk.h"

using namespace ternion;
using namespace ternion::walks;

namespace {

class Walk {
  public:
    Walk(const Setup & setup, const fs::path & folder) : setup_(setup), random_(setup.seed), folder_(folder) {
        ContextOptions plain;
        plain.context = plain.kv_tokens = context_tokens;
        reference_ = load(setup, plain);
        // Room for two or three of up to a dozen sessions, so that every tier is used all the time.
        ContextOptions tight;
        tight.context = context_tokens;
        tight.sequences = 3;
        tight.spare = 3;
        tight.kv_tokens = 2 * context_tokens;
        tight.checkpoint_bytes = 4 << 20;
        const uint64_t conversation = reference_->context->cache_stats().cell_bytes * context_tokens;
        tight.ram_bytes = 2 * conversation;
        tight.disk_bytes = 3 * conversation;
        tight.disk_folder = folder.string();
        tested_ = load(setup, tight);
        for (size_t i = 0; i < std::size(roots_); ++i) {
            roots_[i] = *tested_->model->tokenize(stories[i], true, true);
        }
    }

    void run() {
        for (int i = 0; i < setup_.operations && failures == 0; ++i) {
            step();
            CHECK(consistent());
            const CacheStats stats = tested_->context->cache_stats();
            CHECK(stats.ram_bytes <= stats.ram_budget && stats.disk_bytes <= stats.disk_budget && stats.used_cells <= stats.cells);
        }
        const CacheStats stats = tested_->context->cache_stats();
        const Stats steps = tested_->context->stats();
        std::printf("%s %s %s: %zu tokens compared, %zu ties; hits %llu, evictions %llu, restores %llu, dropped %llu, preemptions %llu, shared cells seen %llu\n",
                    setup_.model.c_str(), setup_.device.c_str(), setup_.kv.c_str(), compared_, ties_, static_cast<unsigned long long>(stats.hits),
                    static_cast<unsigned long long>(stats.evictions), static_cast<unsigned long long>(stats.restores),
                    static_cast<unsigned long long>(stats.dropped), static_cast<unsigned long long>(steps.preemptions),
                    static_cast<unsigned long long>(most_shared_));
        CHECK(ties_ * 1000 <= compared_ + 1000); // of a short walk: one
        CHECK(setup_.operations < 300 || (stats.evictions > 0 && stats.restores > 0 && most_shared_ > 0 && steps.preemptions > 0));
        CHECK(stats.disk_errors == 0);
        ends_empty();
    }

  private:
    static constexpr uint32_t context_tokens = 256;
    struct Chat {
        uint64_t id;
        Tokens tokens;
    };
    struct Kept {
        SnapshotPtr snapshot;
        Tokens tokens;
    };

    uint32_t below(size_t n) { return static_cast<uint32_t>(random_() % n); }

    void step() {
        Context & context = *tested_->context;
        if (chats_.empty() || (chats_.size() < 10 && below(12) == 0)) {
            chats_.push_back({context.open_session(below(8) == 0), {}});
            return;
        }
        Chat & chat = chats_[below(chats_.size())];
        switch (below(16)) {
            case 0:
                if (chats_.size() < 12) {
                    const auto fork = context.fork_session(chat.id);
                    CHECK(bool(fork));
                    Tokens tokens = chat.tokens;
                    chats_.push_back({*fork, std::move(tokens)});
                }
                break;
            case 1: {
                const auto gone = chats_.begin() + static_cast<std::ptrdiff_t>(&chat - chats_.data());
                std::promise<void> closed;
                context.close_session(chat.id, [&] { closed.set_value(); });
                closed.get_future().get();
                chats_.erase(gone);
                break;
            }
            case 2:
                capture(chat);
                break;
            case 3:
                if (!kept_.empty()) {
                    adopt(chat, kept_[below(kept_.size())]);
                }
                break;
            case 4:
                abort(chat);
                break;
            case 5:
                if (below(4) == 0) {
                    std::promise<void> done;
                    context.trim_cache([&] { done.set_value(); });
                    done.get_future().get();
                }
                break;
            default:
                generate();
        }
        most_shared_ = std::max(most_shared_, context.cache_stats().shared_cells);
    }

    /// The chat's tokens up to somewhere, and some more.
    Tokens prompt_of(const Chat & chat) {
        Tokens tokens = chat.tokens;
        if (tokens.empty() || below(8) == 0) {
            const Tokens & root = roots_[below(std::size(roots_))];
            tokens.assign(root.begin(), root.begin() + 1 + below(root.size()));
        } else if (below(3) == 0) {
            tokens.resize(1 + below(tokens.size()));
        }
        const size_t more = below(24);
        const Tokens & root = roots_[below(std::size(roots_))];
        for (size_t i = 0, at = below(root.size()); i < more; ++i) {
            tokens.push_back(root[(at + i) % root.size()]);
        }
        tokens.resize(std::min<size_t>(tokens.size(), context_tokens - 20));
        return tokens;
    }

    /// One to four chats at a time, of random priority.
    void generate() {
        struct Started {
            size_t chat;
            uint64_t id;
            Tokens prompt;
        };
        std::vector<Started> started;
        const size_t first = below(chats_.size()), n = std::min<size_t>(chats_.size(), 1 + below(6));
        for (size_t i = 0; i < n; ++i) {
            const size_t which = (first + i) % chats_.size();
            Tokens prompt = prompt_of(chats_[which]);
            GenerateRequest r = request(prompt, 1 + static_cast<int32_t>(below(16)));
            r.priority = static_cast<int32_t>(below(3));
            const auto id = tested_->context->generate(chats_[which].id, r);
            CHECK(bool(id));
            started.push_back({which, *id, std::move(prompt)});
            if (below(3) == 0) { // so that others interrupt it in the midst of its answer
                std::this_thread::sleep_for(std::chrono::microseconds(below(2000)));
            }
        }
        for (const Started & each : started) {
            const Answer answer = wait(*tested_->context, each.id);
            if (answer.last.kind == Event::Kind::error && answer.last.error.code == ErrorCode::out_of_memory) {
                chats_[each.chat].tokens.clear(); // pinned sessions may fill the pool
                continue;
            }
            CHECK(answer.last.kind == Event::Kind::finish);
            compare(each.prompt, answer);
            chats_[each.chat].tokens = each.prompt;
            chats_[each.chat].tokens.insert(chats_[each.chat].tokens.end(), answer.tokens.begin(), answer.tokens.end());
        }
    }

    /// By a session that nobody shares anything with; the prompt is prefilled in batches of `step` tokens.
    Answer reference(const Tokens & prompt, size_t n, size_t step) {
        Context & context = *reference_->context;
        const uint64_t session = context.open_session();
        for (size_t until = step; until < prompt.size(); until += step) {
            wait(context, *context.generate(session, request({prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(until)}, 0)));
        }
        const Answer answer = wait(context, *context.generate(session, request(prompt, static_cast<int32_t>(n))));
        CHECK(answer.last.usage.cached == 0 || step < prompt.size());
        std::promise<void> closed, trimmed;
        context.close_session(session, [&] { closed.set_value(); });
        closed.get_future().get();
        context.trim_cache([&] { trimmed.set_value(); });
        trimmed.get_future().get();
        return answer;
    }

    void compare(const Tokens & prompt, const Answer & answer) {
        const size_t n = answer.tokens.size();
        const Answer right = reference(prompt, n, prompt.size());
        const size_t same = static_cast<size_t>(std::ranges::mismatch(answer.tokens, right.tokens).in1 - answer.tokens.begin());
        compared_ += std::min(n, same + 1); // from the first difference on they are different texts
        if (same == n) {
            return;
        }
        ties_++;
        bool tie = right.gaps[same] < 1e-3;
        // Keys and values of 8 bits make more of rounding, a mixture's router still more. What the reference itself makes of other
        // batches says how much.
        double spread = 0.0;
        for (const size_t step : {size_t{1}, size_t{7}, prompt.size() - 1, prompt.size() / 2}) {
            if (setup_.kv != "f16" && step > 0) {
                const Answer cut = reference(prompt, n, step);
                const size_t until = static_cast<size_t>(std::ranges::mismatch(cut.tokens, right.tokens).in1 - cut.tokens.begin());
                spread = std::max(spread, until <= same ? right.gaps[same] : std::abs(cut.gaps[same] - right.gaps[same]));
            }
        }
        tie = tie || right.gaps[same] < 2.0 * spread;
        if (!tie) {
            std::fprintf(stderr, "token %zu behind %zu: %d instead of %d, which is ahead by %g (here %g)\n", same, prompt.size(), answer.tokens[same],
                         right.tokens[same], right.gaps[same], answer.gaps[same]);
            CHECK(!"another token than the reference's");
        }
    }

    void abort(Chat & chat) {
        const Tokens prompt = prompt_of(chat);
        const auto id = tested_->context->generate(chat.id, request(prompt, -1));
        CHECK(bool(id));
        std::this_thread::sleep_for(std::chrono::microseconds(below(3000)));
        tested_->context->cancel(*id);
        wait(*tested_->context, *id);
        chat.tokens = prompt;
    }

    void capture(Chat & chat) {
        auto snapshot = wait_for<SnapshotPtr>([&](auto done) { return tested_->context->capture(chat.id, "{}", std::nullopt, std::move(done)); });
        if (!snapshot) {
            CHECK(snapshot.error().code == ErrorCode::out_of_memory);
            return;
        }
        Bytes bytes = Bytes::of(encoded_bytes(**snapshot, (*snapshot)->state.size));
        encode(**snapshot, bytes.data.get());
        auto again = decode(bytes.data.get(), bytes.size);
        CHECK(bool(again));
        Tokens tokens = (*snapshot)->tokens;
        kept_.push_back({std::make_shared<const Snapshot>(std::move(*again)), std::move(tokens)});
        if (kept_.size() > 5) {
            kept_.erase(kept_.begin() + below(kept_.size()));
        }
    }

    void adopt(Chat & chat, const Kept & kept) {
        auto done = wait_for<SnapshotPtr>([&](auto d) { return tested_->context->adopt(chat.id, kept.snapshot, std::move(d)); });
        if (!done) {
            CHECK(done.error().code == ErrorCode::out_of_memory);
            return;
        }
        chat.tokens = kept.tokens;
        CHECK(tested_->context->session_tokens(chat.id) == kept.tokens.size());
    }

    bool consistent() {
        std::promise<bool> answer;
        tested_->context->look([&](const KvCache & cache) { answer.set_value(cache.consistent()); });
        return answer.get_future().get();
    }

    void ends_empty() {
        for (const Chat & chat : chats_) {
            std::promise<void> closed;
            tested_->context->close_session(chat.id, [&] { closed.set_value(); });
            closed.get_future().get();
        }
        std::promise<void> trimmed;
        tested_->context->trim_cache([&] { trimmed.set_value(); });
        trimmed.get_future().get();
        CHECK(consistent());
        CacheStats stats = tested_->context->cache_stats();
        for (int i = 0; i < 5000 && stats.writing_bytes > 0; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
            std::promise<void> again;
            tested_->context->trim_cache([&] { again.set_value(); });
            again.get_future().get();
            stats = tested_->context->cache_stats();
        }
        CHECK(stats.used_cells == 0 && stats.used_ids == 0 && stats.sessions == 0 && stats.nodes.empty());
        CHECK(stats.ram_bytes == 0 && stats.disk_bytes == 0 && stats.writing_bytes == 0 && stats.checkpoint_bytes == 0);
        tested_.reset();
        size_t files = 0;
        for (const auto & entry : fs::recursive_directory_iterator(folder_)) {
            files += entry.is_regular_file() && entry.path().filename() != "lock";
        }
        CHECK(files == 0);
    }

    const Setup setup_;
    std::mt19937 random_;
    const fs::path folder_;
    std::unique_ptr<Engine> reference_, tested_;
    Tokens roots_[3];
    std::vector<Chat> chats_;
    std::vector<Kept> kept_;
    size_t compared_ = 0, ties_ = 0;
    uint64_t most_shared_ = 0;
};

/// The model with weights of 32 bits.
std::string in_float32(const std::string & path, const fs::path & folder) {
    const std::string copy = (folder / fs::path(path).filename()).string();
    llama_model_quantize_params params = llama_model_quantize_default_params();
    params.ftype = LLAMA_FTYPE_ALL_F32;
    params.allow_requantize = true;
    CHECK(fs::exists(copy) || llama_model_quantize(path.c_str(), copy.c_str(), &params) == 0);
    return copy;
}

void walk(const Setup & setup) {
    const fs::path folder = fs::temp_directory_path() / ("ternion-sessions-" + std::to_string(std::random_device{}()));
    Walk(setup, folder).run();
    fs::remove_all(folder);
}

} // namespace

int main(int argc, char ** argv) {
    log_install(); // upstream's quantiser speaks
    if (argc > 1) {
        Setup setup;
        setup.model = argv[1];
        setup.device = argc > 2 ? argv[2] : setup.device;
        setup.kv = argc > 3 ? argv[3] : setup.kv;
        setup.operations = argc > 4 ? std::atoi(argv[4]) : setup.operations;
        setup.seed = argc > 5 ? static_cast<uint32_t>(std::atoi(argv[5])) : setup.seed;
        setup.kernels = argc > 6 ? argv[6] : "";
        walk(setup);
        return finish_tests();
    }
    const fs::path folder = fs::temp_directory_path() / ("ternion-float32-" + std::to_string(std::random_device{}()));
    fs::create_directory(folder);
    for (const char * model : {"models/tern-5m-f16.gguf", "models/tern-moe-6m-f16.gguf", "models/tern-hybrid-random.gguf"}) {
        for (const char * kv : {"f16", "q8_0"}) {
            walk({.model = in_float32(model, folder), .kv = kv});
        }
    }
    fs::remove_all(folder);
    return finish_tests();
}
