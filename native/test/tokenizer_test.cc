// Every vocabulary of upstream's that comes with vectors, through Model: texts in .inp, one line of ids each in .out.
#include "check.h"

#include "engine/model.h"

#include <filesystem>
#include <fstream>
#include <sstream>

using namespace ternion;

namespace {

std::string slurp(const std::filesystem::path & path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> split(const std::string & text, const std::string & separator) {
    std::vector<std::string> parts;
    size_t start = 0;
    for (size_t end; (end = text.find(separator, start)) != std::string::npos; start = end + separator.size()) {
        parts.push_back(text.substr(start, end - start));
    }
    parts.push_back(text.substr(start));
    return parts;
}

void check_vocabulary(const std::filesystem::path & path) {
    ModelOptions options;
    options.path = path.string();
    options.vocab_only = true;
    const std::atomic<bool> cancel{false};
    const auto model = Model::load(options, {}, cancel);
    CHECK(model);
    if (!model) {
        return;
    }
    const auto texts = split(slurp(path.string() + ".inp"), "\n__ggml_vocab_test__\n");
    const auto lines = split(slurp(path.string() + ".out"), "\n");
    CHECK(texts.size() > 10 && lines.size() >= texts.size());
    for (size_t i = 0; i < std::min(texts.size(), lines.size()); ++i) {
        std::vector<llama_token> expected;
        std::istringstream ids(lines[i]);
        for (llama_token id; ids >> id;) {
            expected.push_back(id);
        }
        const auto tokens = (*model)->tokenize(texts[i], false, false);
        CHECK(tokens);
        if (tokens && *tokens != expected) {
            std::fprintf(stderr, "%s, text %zu\n", path.filename().c_str(), i);
            CHECK(*tokens == expected);
        }
    }
}

} // namespace

int main() {
    int vocabularies = 0;
    for (const auto & entry : std::filesystem::directory_iterator("vendor/llama/models")) {
        if (entry.path().extension() == ".inp") {
            check_vocabulary(std::filesystem::path(entry.path()).replace_extension());
            vocabularies++;
        }
    }
    CHECK(vocabularies >= 10);
    return finish_tests();
}
