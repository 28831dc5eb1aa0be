// What a random walk on sessions needs: engines, requests and their answers.
#pragma once

#include "check.h"

#include "engine/engine.h"
#include "engine/log.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <future>
#include <random>
#include <string>
#include <thread>

namespace ternion::walks {

using Tokens = std::vector<llama_token>;
namespace fs = std::filesystem;

// Texts of the kind that the models know: what comes next is seldom a toss-up.
inline const char * stories[] = {
    "Once upon a time, a tiny fox named Ella lived in a tall tower. She was so curious that she looked under every stone. One day, Ella found a big "
    "basket of mushrooms. Ella did not want to share it with anyone. Then Anna the cat knocked at the door. \"I am so hungry,\" said Anna.",
    "Once upon a time, there was a tiny cat named Juno who lived in a town. She was so shy that she often hid behind a tree. At first Juno wanted to "
    "say no, but Anna looked so sad. \"There is enough for two,\" said Juno with a smile. And they lived happily ever after.",
    "Once upon a time, a tiny boy named Finn lived in a garden. He was so shy that he often hid behind a tree. One day, Finn found a big basket of "
    "apples. Finn wanted to eat it all alone. If you give, you will get something back.",
};

struct Setup {
    std::string model = "models/tern-5m-f16.gguf";
    std::string device = "cpu";
    std::string kv = "f16";
    std::string kernels = {}; // empty: the fastest
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    int operations = 50; // each of which takes ten times as long
#else
    int operations = 300;
#endif
    uint32_t seed = 1;
};

inline ggml_type kv_type(const std::string & name) {
    for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
        if (const char * known = ggml_type_name(static_cast<ggml_type>(i)); known && name == known) {
            return static_cast<ggml_type>(i);
        }
    }
    std::fprintf(stderr, "no such KV type: %s\n", name.c_str());
    std::exit(2);
}

inline std::unique_ptr<Engine> load(const Setup & setup, ContextOptions context) {
    EngineOptions options;
    options.model.path = setup.model;
    options.model.kernels = setup.kernels;
    if (setup.device != "cpu") {
        options.model.devices = {setup.device};
    }
    options.context = std::move(context);
    options.context.kv_k = options.context.kv_v = kv_type(setup.kv);
    const std::atomic<bool> cancel{false};
    auto engine = Engine::load(options, {}, cancel);
    if (!engine) {
        std::fprintf(stderr, "%s\n", engine.error().message.c_str());
        std::exit(2);
    }
    return std::move(*engine);
}

struct Answer {
    Tokens tokens;
    std::vector<double> gaps; // between the two best log probabilities
    Event last{.kind = Event::Kind::error};
};

inline Answer wait(Context & context, uint64_t id) {
    Answer answer;
    for (int i = 0; i < 1'200'000; ++i) {
        for (Event & event : context.drain(id)) {
            for (const LogprobEntry & entry : event.logprobs) {
                answer.tokens.push_back(entry.logprobs.chosen.token);
                answer.gaps.push_back(entry.logprobs.top[0].logprob - entry.logprobs.top[1].logprob);
            }
            if (event.kind == Event::Kind::finish || event.kind == Event::Kind::error) {
                answer.last = std::move(event);
                return answer;
            }
        }
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    CHECK(!"a generation did not end");
    std::exit(1);
}

inline GenerateRequest request(Tokens tokens, int32_t max_tokens) {
    GenerateRequest r;
    r.tokens = std::move(tokens);
    r.max_tokens = max_tokens;
    r.sampling.temperature = 0.0f;
    r.sampling.ignore_eos = true;
    r.n_logprobs = 2;
    return r;
}

template <typename T, typename Start>
Result<T> wait_for(Start start) {
    auto promise = std::make_shared<std::promise<Result<T>>>();
    auto future = promise->get_future();
    auto started = start([promise](Result<T> result) { promise->set_value(std::move(result)); });
    if (!started) {
        return started.error();
    }
    return future.get();
}

} // namespace ternion::walks
