// The engine without Node, on the embedded model.
#include "check.h"

#include "engine/engine.h"
#include "engine/log.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <string>

using namespace ternion;

namespace {

const char * model_path = "models/tern-5m-tq2_0.gguf";

std::unique_ptr<Engine> load(uint32_t context, uint32_t sequences, int32_t spare = -1) {
    EngineOptions options;
    options.model.path = model_path;
    options.context.context = context;
    options.context.sequences = sequences;
    options.context.spare = spare;
    const std::atomic<bool> cancel{false};
    auto engine = Engine::load(options, {}, cancel);
    if (!engine) {
        std::fprintf(stderr, "%s\n", engine.error().message.c_str());
        std::exit(1);
    }
    return std::move(*engine);
}

struct Outcome {
    std::string text;
    Event last{.kind = Event::Kind::error};
};

/// Drains a generation until its last event; gives up after a minute.
Outcome wait(Context & context, uint64_t id) {
    Outcome outcome;
    for (int i = 0; i < 60000; ++i) {
        for (Event & event : context.drain(id)) {
            outcome.text += event.kind == Event::Kind::text ? event.text : "";
            if (event.kind == Event::Kind::finish || event.kind == Event::Kind::error) {
                outcome.last = std::move(event);
                return outcome;
            }
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK(!"a generation did not end");
    return outcome;
}

GenerateRequest request(const std::string & text, int32_t max_tokens) {
    GenerateRequest r;
    r.text = text;
    r.max_tokens = max_tokens;
    return r;
}

void greedy_is_repeatable_and_cached() {
    const auto engine = load(512, 1, 0);
    Context & context = *engine->context;
    const uint64_t a = context.open_session();
    const Outcome first = wait(context, *context.generate(a, request("Once upon a time", 40)));
    CHECK(first.last.kind == Event::Kind::finish && !first.text.empty());
    CHECK(first.last.usage.generated == 40 || first.last.reason == FinishReason::stop);
    const Outcome again = wait(context, *context.generate(a, request("Once upon a time", 40)));
    CHECK(again.text == first.text);
    CHECK(again.last.usage.cached == again.last.usage.prompt - 1);
    const uint64_t b = context.open_session(); // one sequence id: the idle session gives way
    CHECK(wait(context, *context.generate(b, request("Once upon a time", 40))).text == first.text);
    CHECK(context.stats().resident_sequences == 1);
}

void sequences_share_steps() {
    const auto engine = load(512, 2);
    Context & context = *engine->context;
    const uint64_t a = context.open_session();
    const uint64_t b = context.open_session();
    const std::string solo = wait(context, *context.generate(a, request("The old bear", 60))).text;
    // On a busy machine the first may have ended before the second is there.
    for (int round = 0; round < 50 && context.stats().shared_steps == 0; ++round) {
        const auto left = context.generate(a, request("The old bear", 60));
        const auto right = context.generate(b, request("Once upon a time", 60));
        CHECK(wait(context, *left).text == solo);
        wait(context, *right);
    }
    CHECK(context.stats().shared_steps > 0);
    CHECK(context.stats().max_sequences_in_step == 2);
}

GenerateRequest tokens_request(std::vector<llama_token> tokens, int32_t max_tokens) {
    GenerateRequest r = request("", max_tokens);
    r.tokens = std::move(tokens);
    r.sampling.temperature = 0.0f;
    r.sampling.ignore_eos = true;
    return r;
}

// What was put away without its beginning, which others held, is of use again once that has been prefilled.
void stored_state_is_rejoined() {
    EngineOptions options;
    options.model.path = model_path;
    options.context.context = 256;
    options.context.sequences = 1;
    options.context.spare = 4;
    options.context.ram_bytes = 64 << 20;
    const std::atomic<bool> cancel{false};
    const auto engine = std::move(*Engine::load(options, {}, cancel));
    Context & context = *engine->context;
    const auto text = [](size_t n, llama_token first) {
        std::vector<llama_token> tokens(n);
        for (size_t i = 0; i < n; ++i) {
            tokens[i] = first + static_cast<llama_token>(i * 7 % 50);
        }
        return tokens;
    };
    const auto after = [&](std::vector<llama_token> tokens, const std::vector<llama_token> & more) {
        tokens.insert(tokens.end(), more.begin(), more.end());
        return tokens;
    };
    const auto beginning = text(80, 300);
    const uint64_t a = context.open_session(), b = context.open_session(), c = context.open_session();
    wait(context, *context.generate(a, tokens_request(after(beginning, text(20, 400)), 1)));
    const auto of_b = after(beginning, text(100, 500));
    const std::string right = wait(context, *context.generate(b, tokens_request(of_b, 8))).text;
    wait(context, *context.generate(a, tokens_request(after(beginning, text(20, 400)), 1))); // used after b
    CHECK(context.cache_stats().evictions == 0 && context.cache_stats().shared_cells >= 80);
    wait(context, *context.generate(c, tokens_request(text(90, 700), 1)));
    CHECK(context.cache_stats().evictions == 1 && context.cache_stats().ram_entries == 1); // b's own part
    for (const uint64_t id : {a, c}) {
        std::mutex mutex;
        std::unique_lock lock(mutex);
        std::condition_variable closed;
        bool done = false;
        context.close_session(id, [&] {
            std::lock_guard inner(mutex);
            done = true;
            closed.notify_one();
        });
        closed.wait(lock, [&] { return done; });
    }
    context.trim_cache([] {});
    const Outcome again = wait(context, *context.generate(b, tokens_request(of_b, 8)));
    CHECK(again.text == right && again.last.usage.cached == 99); // all but the beginning and the last token
    CHECK(context.cache_stats().restores == 1);
}

void errors_and_ends() {
    const auto engine = load(64, 1);
    Context & context = *engine->context;
    const uint64_t a = context.open_session();
    std::string text;
    for (int i = 0; i < 200; ++i) {
        text += "fox ";
    }
    const Outcome full = wait(context, *context.generate(a, request(text, 8)));
    CHECK(full.last.kind == Event::Kind::error && full.last.error.code == ErrorCode::context_full);
    GenerateRequest endless = request("Once", -1);
    endless.sampling.ignore_eos = true;
    const Outcome end = wait(context, *context.generate(a, endless));
    CHECK(end.last.kind == Event::Kind::finish && end.last.reason == FinishReason::length);
    CHECK(end.last.usage.prompt + end.last.usage.generated == 64 + 1);
    CHECK(wait(context, *context.generate(a, request("Once", 0))).last.usage.generated == 0);
    GenerateRequest bad = request("Once", 4);
    bad.sampling.grammar = "root ::= (";
    const Outcome grammar = wait(context, *context.generate(a, bad));
    CHECK(grammar.last.kind == Event::Kind::error && grammar.last.error.code == ErrorCode::grammar_invalid);
    GenerateRequest digits = request("Once", 6);
    digits.sampling.grammar = "root ::= [0-9]+";
    const Outcome number = wait(context, *context.generate(a, digits));
    CHECK(!number.text.empty() && number.text.find_first_not_of("0123456789") == std::string::npos);
    CHECK(!context.generate(999, request("x", 1)));
}

void cancel_and_stop_in_every_state() {
    for (int delay_us = 0; delay_us < 6000; delay_us += 300) {
        const auto engine = load(2048, 2);
        Context & context = *engine->context;
        GenerateRequest endless = request("Once upon a time", -1);
        endless.sampling.ignore_eos = true;
        const auto running = context.generate(context.open_session(), endless);
        std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
        if (delay_us % 600 == 0) {
            context.cancel(*running);
            CHECK(wait(context, *running).last.reason == FinishReason::aborted);
        } else {
            engine->stop();
            CHECK(wait(context, *running).last.reason == FinishReason::aborted);
        }
    }
}

void damaged_files() {
    const std::atomic<bool> cancel{false};
    ModelOptions options;
    options.path = "models/no-such-file.gguf";
    CHECK(Model::load(options, {}, cancel).error().code == ErrorCode::model_not_found);
    options.path = "models";
    CHECK(Model::load(options, {}, cancel).error().code == ErrorCode::model_invalid);
    options.path = "package.json";
    CHECK(Model::load(options, {}, cancel).error().code == ErrorCode::model_invalid);
    options.path = model_path;
    options.devices = {"vulkan99"};
    CHECK(Model::load(options, {}, cancel).error().code == ErrorCode::device_not_found);
}

// The pack cache knows a file by what it holds; the file that was looked at is not the one that is there when it has been read.
void a_file_that_changes_while_it_loads() {
    namespace fs = std::filesystem;
    const fs::path folder = fs::temp_directory_path() / "ternion-engine-test", path = folder / "model.gguf", next = folder / "next.gguf";
    fs::create_directories(folder);
    fs::copy_file(model_path, path, fs::copy_options::overwrite_existing);
    fs::copy_file("models/tern-5m-sherry-stq1_0.gguf", next, fs::copy_options::overwrite_existing);
    const std::atomic<bool> cancel{false};
    ModelOptions options;
    options.path = path.string();
    options.packs = {(folder / "packs").string(), uint64_t{1} << 30};
    bool replaced = false;
    const auto replace = [&](float) {
        if (!replaced) {
            fs::rename(next, path);
            replaced = true;
        }
    };
    const auto model = Model::load(options, replace, cancel);
    CHECK(model && replaced);
    CHECK(model && std::any_of((*model)->packed().kinds.begin(), (*model)->packed().kinds.end(), [](const kernels::PackedKind & kind) { return kind.type == "stq1_0"; }));
    fs::remove_all(folder);
}

} // namespace

int main() {
    log_install();
    greedy_is_repeatable_and_cached();
    sequences_share_steps();
    stored_state_is_rejoined();
    errors_and_ends();
    cancel_and_stop_in_every_state();
    damaged_files();
    a_file_that_changes_while_it_loads();
    return finish_tests();
}
