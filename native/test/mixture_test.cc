// The mixture in the model family: every expert is used. Prints each one's share of the held-out tokens.
#include "check.h"

#include "ggml-backend.h"
#include "llama.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

namespace {

constexpr size_t row_tokens = 2049;
constexpr int rows_used = 4;

struct Routing {
    std::map<int, std::map<int32_t, int64_t>> tokens; // layer → expert → tokens
};

bool observe(ggml_tensor * t, bool ask, void * data) {
    const std::string prefix = "ffn_moe_topk-";
    const bool wanted = std::strncmp(t->name, prefix.c_str(), prefix.size()) == 0;
    if (ask || !wanted) {
        return ask ? wanted : true;
    }
    auto & experts = static_cast<Routing *>(data)->tokens[std::atoi(t->name + prefix.size())];
    for (int64_t token = 0; token < t->ne[1]; ++token) { // a view: rows are as far apart as nb[1] says
        std::vector<int32_t> chosen(static_cast<size_t>(t->ne[0]));
        ggml_backend_tensor_get(t, chosen.data(), static_cast<size_t>(token) * t->nb[1], chosen.size() * sizeof(int32_t));
        for (const int32_t expert : chosen) {
            experts[expert]++;
        }
    }
    return true;
}

std::vector<llama_token> held_out() {
    std::ifstream file("models/recipe/heldout/rows.tok", std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    std::vector<llama_token> tokens;
    for (size_t i = 0; i + 1 < bytes.size(); i += 2) {
        tokens.push_back(static_cast<uint8_t>(bytes[i]) | static_cast<uint8_t>(bytes[i + 1]) << 8);
    }
    return tokens;
}

} // namespace

int main() {
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_model_params on_cpu = llama_model_default_params();
    on_cpu.n_gpu_layers = 0;
    llama_model * model = llama_model_load_from_file("models/tern-moe-6m-tq2_0.gguf", on_cpu);
    std::vector<llama_token> tokens = held_out();
    CHECK(model != nullptr);
    CHECK(tokens.size() >= rows_used * row_tokens);
    if (failures > 0) {
        return finish_tests();
    }
    Routing routing;
    llama_context_params params = llama_context_default_params();
    params.n_ctx = 2048;
    params.n_batch = 2048;
    params.cb_eval = observe;
    params.cb_eval_user_data = &routing;
    llama_context * context = llama_init_from_model(model, params);
    CHECK(context != nullptr);

    // The last layer computes only tokens whose logits are asked for.
    std::vector<int8_t> wanted(row_tokens, 1);
    for (int row = 0; row < rows_used; ++row) {
        llama_memory_clear(llama_get_memory(context), true);
        llama_batch batch = llama_batch_get_one(tokens.data() + static_cast<size_t>(row) * row_tokens, row_tokens - 1);
        batch.logits = wanted.data();
        CHECK(llama_decode(context, batch) == 0);
    }

    CHECK(!routing.tokens.empty());
    for (const auto & [layer, experts] : routing.tokens) {
        int64_t total = 0;
        for (const auto & [expert, count] : experts) {
            total += count;
        }
        CHECK(experts.size() == 16);
        double least = 1.0;
        std::printf("layer %d:", layer);
        for (const auto & [expert, count] : experts) {
            // A token counts for each of the two experts that work on it.
            const double share = 2.0 * static_cast<double>(count) / static_cast<double>(total);
            std::printf(" %.1f%%", 100.0 * share);
            least = std::min(least, share);
        }
        std::printf("\nleast used: %.2f %% of the tokens\n", 100.0 * least);
        CHECK(least >= 0.01);
    }
    llama_free(context);
    llama_model_free(model);
    return finish_tests();
}
