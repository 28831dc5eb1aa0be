// Files that are no models any more: each one either loads and decodes, or is refused with a reason. Nothing ends the process, takes
// more than a minute (with sanitizers, five), or memory without bound.
//
//   hostile_files_test [--count N] [--seed S] [--first I] [FILE…]
//
// makes N mutations of each file (of the family, by default), number I and up of seed S, each tried in a child process. What failed
// is printed with the arguments that repeat it.
#include "check.h"
#include "mutations.h"
#include "processes.h"
#include "scratch.h"
#include "walk.h"

#include "engine/gguf_file.h"
#include "engine/quantize.h"

#include <map>
#include <sys/resource.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool address_sanitizer = true;
constexpr unsigned most_seconds = 300;
extern "C" const char * __asan_default_options() { return "max_allocation_size_mb=2048:allocator_may_return_null=0:detect_leaks=0"; }
#else
constexpr bool address_sanitizer = false;
constexpr unsigned most_seconds = 60;
#endif

using namespace ternion;
using namespace ternion::walks;

namespace {

constexpr rlim_t most_memory = 3ull << 30; // of address space; a sound model of the family takes less than 1

bool talkative = false; // says why a file was refused

const std::vector<std::string> family = {
    "models/tern-5m-tq2_0.gguf", "models/tern-5m-sherry-stq1_0.gguf", "models/tern-5m-f16.gguf", "models/tern-draft-q8_0.gguf",
    "models/tern-moe-6m-tq2_0.gguf", "models/tern-moe-6m-f16.gguf", "models/tern-hybrid-random.gguf", "models/tern-embedding-random.gguf",
};

/// What became of one file, as a letter: 'D' it decodes, 'R' it is refused, 'L' it loads and what it is asked for is refused,
/// 'M' for want of memory, 'I' with an internal error.
char letter_of(const Error & error, char otherwise) {
    return error.code == ErrorCode::out_of_memory ? 'M' : error.code == ErrorCode::internal ? 'I' : otherwise;
}

/// What is asked of a file beside being run may be refused, but for a reason that it has.
class Asides {
  public:
    template <typename T> void hear(const char * what, const Result<T> & result) {
        if (result) {
            return;
        }
        const Error & error = result.error();
        const char letter = error.message.empty() ? 'I' : letter_of(error, 'R');
        if (letter != 'R') {
            letter_ = letter;
        }
        if (letter != 'R' || talkative) {
            std::fprintf(stderr, "%s: %s\n", what, error.message.c_str());
        }
    }
    /// `otherwise`, unless something here failed.
    char letter(char otherwise) const { return letter_ ? letter_ : otherwise; }

  private:
    char letter_ = '\0';
};

char use(const std::string & path, uint64_t number) {
    const std::atomic<bool> cancel{false};
    Asides asides;
    asides.hear("header", GgufFile::read(path));
    EngineOptions options;
    options.model.path = path;
    options.model.kernels = number % 2 == 0 ? "upstream" : "";
    options.model.mmap = number % 3 != 0;
    options.context.context = options.context.kv_tokens = 256;
    options.context.spare = 0;
    options.context.threads = 1 + static_cast<int32_t>(number % 2);
    if (number % 4 == 0) {
        asides.hear("plan", Engine::dry_run(options, cancel));
    }
    if (number % 8 == 1) {
        QuantizeOptions again;
        again.inputs = {path};
        again.output = path + ".out";
        again.type = number % 16 == 1 ? "COPY" : "Q4_0";
        again.allow_requantize = true;
        again.threads = 1;
        asides.hear("quantize", quantize(again, {}, cancel));
    }
    ModelOptions words = options.model;
    words.vocab_only = true;
    if (number % 4 == 2) {
        asides.hear("vocabulary", Model::load(words, {}, cancel));
    }
    auto loaded = Engine::load(options, {}, cancel);
    if (!loaded) {
        const char letter = loaded.error().message.empty() ? 'I' : letter_of(loaded.error(), 'R');
        if (letter != 'R' || talkative) {
            std::fprintf(stderr, "%s\n", loaded.error().message.c_str());
        }
        return asides.letter(letter);
    }
    Engine & engine = **loaded;
    asides.hear("tokens", engine.model->tokenize("Once upon a time, \xE2\x82\xAC 12345\n", true, true));
    asides.hear("template", wait_for<std::string>([&](auto done) {
        engine.context->render({{"user", "Hello", ""}}, false, done);
        return Result<bool>(true);
    }));
    char outcome = 'D';
    const auto embedded = wait_for<SideContext::Rows>([&](auto done) {
        engine.side.embed({"Once upon a time"}, true, std::make_shared<std::atomic<bool>>(false), done);
        return Result<bool>(true);
    });
    if (!engine.model->info().causal) {
        return asides.letter(embedded ? 'D' : letter_of(embedded.error(), 'L'));
    }
    asides.hear("embedding", embedded);
    for (const bool greedy : {true, false}) {
        const uint64_t session = engine.context->open_session();
        GenerateRequest asked = request({}, 4);
        asked.text = "Once upon a time, there was";
        if (!greedy) {
            asked.sampling.temperature = 0.8f;
            asked.n_logprobs = 0;
        }
        const auto id = engine.context->generate(session, asked);
        if (!id) {
            return asides.letter(letter_of(id.error(), 'L'));
        }
        for (bool ended = false; !ended;) {
            for (const Event & event : engine.context->drain(*id)) {
                ended = ended || event.kind == Event::Kind::finish || event.kind == Event::Kind::error;
                if (event.kind == Event::Kind::error) {
                    outcome = letter_of(event.error, 'L');
                    if (outcome == 'I' || talkative) {
                        std::fprintf(stderr, "%s\n", event.error.message.c_str());
                    }
                }
            }
            std::this_thread::sleep_for(std::chrono::microseconds(100));
        }
    }
    engine.stop();
    return asides.letter(outcome);
}

struct Totals {
    std::map<char, int> outcomes;
    int failed = 0;
};

/// Says what becomes of each number from `first` on; ends with the first that ends the process.
void try_all(mutations::Mutator & mutator, const std::string & path, uint64_t seed, uint64_t first, uint64_t end, const Child::Said & said) {
    if (!address_sanitizer) {
        const rlimit limit{most_memory, most_memory};
        setrlimit(RLIMIT_AS, &limit);
    }
    const rlimit none{0, 0};
    setrlimit(RLIMIT_CORE, &none);
    for (uint64_t number = first; number < end; ++number) {
        std::string what;
        std::ofstream(path, std::ios::binary | std::ios::trunc) << mutator.make(seed * 1'000'003 + number, what);
        alarm(most_seconds); // ends the process
        said.say(use(path, number));
    }
}

void mutate(const std::string & model, uint64_t seed, uint64_t first, uint64_t count, Totals & totals) {
    const Scratch scratch;
    mutations::Mutator mutator(model);
    constexpr uint64_t batch = 50;
    Totals here;
    for (uint64_t number = first; number < first + count;) {
        const uint64_t end = std::min(number + batch, first + count);
        Child child([&](const Child::Said & said) { try_all(mutator, scratch / "model.gguf", seed, number, end, said); });
        const auto failed = [&](const char * how) {
            std::string what;
            (void) mutator.make(seed * 1'000'003 + number, what);
            std::fprintf(stderr, "FAILED (%s): hostile_files_test --seed %llu --first %llu --count 1 %s # %s\n", how, static_cast<unsigned long long>(seed), static_cast<unsigned long long>(number),
                         model.c_str(), what.c_str());
            here.failed++;
        };
        int letter;
        while (number < end && (letter = child.hear()) != Child::closed) {
            here.outcomes[static_cast<char>(letter)]++;
            if (letter == 'M' || letter == 'I') {
                failed(letter == 'M' ? "memory" : "internal error");
            }
            number++;
        }
        if (number < end) {
            failed("the process ended");
            number++;
        } else if (child.wait() != 0) {
            number--;
            failed("the process ended badly");
            number++;
        }
    }
    std::printf("%s: %llu mutations of seed %llu from %llu:", model.c_str(), static_cast<unsigned long long>(count), static_cast<unsigned long long>(seed), static_cast<unsigned long long>(first));
    for (const auto & [letter, n] : here.outcomes) {
        std::printf(" %d %s,", n, letter == 'D' ? "decode" : letter == 'R' ? "are refused" : letter == 'L' ? "load and refuse to run" : letter == 'M' ? "want memory" : "internal errors");
    }
    std::printf(" %d failed\n", here.failed);
    std::fflush(stdout);
    totals.failed += here.failed;
    for (const auto & [letter, n] : here.outcomes) {
        totals.outcomes[letter] += n;
    }
}

} // namespace

int main(int argc, char ** argv) {
    uint64_t count = 100, seed = 1, first = 0;
    std::vector<std::string> models;
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        const auto value = [&] { return i + 1 < argc ? std::strtoull(argv[++i], nullptr, 10) : 0; };
        if (argument == "--count") {
            count = value();
        } else if (argument == "--seed") {
            seed = value();
        } else if (argument == "--first") {
            first = value();
        } else {
            models.push_back(argument);
        }
    }
    talkative = count == 1;
    Totals totals;
    for (const std::string & model : models.empty() ? family : models) {
        mutate(model, seed, first, count, totals);
    }
    CHECK(totals.failed == 0);
    if (count >= 50) {
        CHECK(totals.outcomes['R'] > 0 && totals.outcomes['D'] > 0); // both ends are reached
    }
    return finish_tests();
}
