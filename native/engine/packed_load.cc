#include "packed_load.h"

#include "backend.h"
#include "log.h"
#include "placement.h"
#include "thread_budget.h"
#include "timings_file.h"

#include "kernels/cpu/float32_reference.h"
#include "kernels/cpu/last_level_cache.h"

#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <regex>
#include <system_error>

namespace ternion {
namespace {

/// Of all parts of a model.
uint64_t file_bytes(const std::string & path) {
    std::smatch parts;
    if (!std::regex_match(path, parts, std::regex("([^]*)-[0-9]{5}-of-([0-9]{5})\\.gguf"))) {
        std::error_code failed;
        const auto bytes = std::filesystem::file_size(path, failed);
        return failed ? UINT64_MAX : bytes;
    }
    uint64_t bytes = 0;
    for (int i = 1, n = std::stoi(parts[2]); i <= n; ++i) {
        char tail[32];
        std::snprintf(tail, sizeof(tail), "-%05d-of-%05d.gguf", i, n);
        std::error_code failed;
        const auto part = std::filesystem::file_size(parts[1].str() + tail, failed);
        bytes += failed ? 0 : part;
    }
    return bytes;
}

struct FreeModel {
    void operator()(llama_model * model) const { llama_model_free(model); }
};

} // namespace

llama_model * PackedLoad::load(const std::string & path, const llama_model_params & params, const PackedLoadOptions & options, const std::atomic<bool> & cancel) {
    if (!options.choice.kernels) {
        std::optional<kernels::Float32Loading> loading;
        if (options.choice.float32) {
            loading.emplace();
        }
        llama_model * const handle = llama_model_load_from_file(path.c_str(), params);
        facts_.kernels = loading && loading->bytes() > 0 ? "float32" : facts_.kernels;
        if (handle) {
            facts_.places = weight_places(handle);
        }
        return handle;
    }
    const kernels::Kernels & set = *options.choice.kernels;
    // A pack of a way that was named is not for those who leave the choice to timing.
    const std::string pack_of = options.choice.way.empty() ? set.name : std::string(set.name) + "+" + options.choice.way;
    Fingerprint model{};
    kernels::LoadingOptions how{{}, options.choice.way, kernels::stay_in_cache(file_bytes(path)), static_cast<size_t>(options.threads > 0 ? options.threads : default_threads()),
                               [](const std::function<void()> & work) {
                                   const ThreadBudget::Turn turn; // models of this process wait
                                   work();
                               }};
    bool cached = options.cache.enabled();
    if (cached) {
        if (const auto found = fingerprint(path)) {
            model = *found;
            how.stored = options.cache.find(model, pack_of.c_str(), cancel);
        } else {
            cached = false; // loading says why
        }
    }
    if (cached) {
        read_timings(options.cache.folder);
    }
    std::unique_ptr<llama_model, FreeModel> handle;
    std::vector<std::shared_ptr<kernels::PackedWeights>> packed;
    bool unfit = false;
    {
        auto loading = std::make_unique<kernels::Loading>(set, std::move(how));
        handle.reset(llama_model_load_from_file(path.c_str(), params));
        packed = std::move(loading->packed());
        unfit = loading->unfit();
        if (handle) {
            facts_.places = weight_places(handle.get());
        }
        if (handle && params.no_alloc) {
            laying_out_ = std::move(loading);
            lay_out(handle.get());
        }
    }
    if (cached) {
        write_timings(options.cache.folder);
    }
    // The file may have become another one between fingerprint and load: its packs are not this model's.
    const bool changed = handle && cached && [&] {
        const auto now = fingerprint(path);
        return !now || *now != model;
    }();
    if (handle && (unfit || changed)) {
        handle.reset();
        packed.clear();
        PackedLoadOptions again = options;
        again.choice.way = unfit ? "ternary" : again.choice.way;
        again.cache = changed ? PackCache{} : again.cache;
        laying_out_.reset();
        facts_ = {};
        return load(path, params, again, cancel);
    }
    if (!handle || packed.empty()) {
        return handle.release();
    }
    facts_.kernels = set.name;
    facts_.from_cache = true;
    for (const auto & weights : packed) {
        facts_.kinds.insert(facts_.kinds.end(), weights->kinds.begin(), weights->kinds.end());
        facts_.bytes += weights->memory->bytes();
        facts_.from_cache = facts_.from_cache && weights->stored;
    }
    if (cached && !facts_.from_cache && packed.size() == 1) {
        writer_.start(options.cache, model, pack_of, packed.front());
    }
    return handle.release();
}

void PackedLoad::lay_out(const llama_model * model) {
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(model)) {
        if (tensor->buffer && ggml_backend_buffer_get_type(tensor->buffer) == kernels::packed_weights_buffer_type()) {
            facts_.kernels = laying_out_->kernels().name;
            facts_.bytes += laying_out_->count(tensor, facts_.kinds);
        }
    }
}

void PackedLoad::Writer::start(const PackCache & cache, const Fingerprint & model, const std::string & kernels, std::shared_ptr<kernels::PackedWeights> weights) {
    static const char * const what = "packed weights are not kept: "; // the model works without
    const auto write = [this, cache, model, kernels, weights = std::move(weights)] {
        name_thread("ternion-pack");
        try {
            const auto stored = cache.store(model, kernels.c_str(), *weights, cancel_);
            if (!stored && !cancel_) {
                log_line(LogLevel::warn, what + stored.error().message);
            }
        } catch (const std::exception & e) { // no memory, a folder that cannot be read
            log_line(LogLevel::warn, std::string(what) + e.what());
        }
    };
    try {
        thread_ = Thread(write);
    } catch (const std::exception & e) { // no more threads
        log_line(LogLevel::warn, std::string(what) + e.what());
    }
}

PackedLoad::Writer::~Writer() {
    cancel_ = true;
    if (thread_.joinable()) {
        thread_.join();
    }
}

} // namespace ternion
