#include "packed_load.h"

#include "backend.h"
#include "log.h"
#include "timings_file.h"

#include "kernels/cpu/float32_reference.h"
#include "kernels/cpu/last_level_cache.h"

#include <filesystem>
#include <optional>
#include <system_error>

namespace ternion {
namespace {

bool fits_in_cache(const std::string & path) {
    std::error_code failed;
    const auto bytes = std::filesystem::file_size(path, failed);
    return !failed && bytes <= kernels::last_level_cache() / 2;
}

} // namespace

llama_model * PackedLoad::load(const std::string & path, const llama_model_params & params, const PackedLoadOptions & options, const std::atomic<bool> & cancel) {
    if (!options.choice.kernels) {
        std::optional<kernels::Float32Loading> loading;
        if (options.choice.float32) {
            loading.emplace();
        }
        llama_model * const handle = llama_model_load_from_file(path.c_str(), params);
        facts_.kernels = loading && loading->bytes() > 0 ? "float32" : facts_.kernels;
        return handle;
    }
    const kernels::Kernels & set = *options.choice.kernels;
    // A pack of a way that was named is not for those who leave the choice to timing.
    const std::string pack_of = options.choice.way.empty() ? set.name : std::string(set.name) + "+" + options.choice.way;
    Fingerprint model{};
    kernels::LoadingOptions how{{}, options.choice.way, fits_in_cache(path), static_cast<size_t>(options.threads > 0 ? options.threads : default_threads())};
    bool cached = options.cache.enabled();
    if (cached) {
        if (const auto found = fingerprint(path)) {
            model = *found;
            how.stored = options.cache.find(model, pack_of.c_str(), cancel);
        } else {
            cached = false; // loading says why
        }
    }
    read_timings(options.cache.folder);
    llama_model * handle = nullptr;
    std::vector<std::shared_ptr<kernels::PackedWeights>> packed;
    bool unfit = false;
    {
        kernels::Loading loading(set, std::move(how));
        handle = llama_model_load_from_file(path.c_str(), params);
        packed = std::move(loading.packed());
        unfit = loading.unfit();
    }
    write_timings(options.cache.folder);
    // The file may have become another one between fingerprint and load: its packs are not this model's.
    const bool changed = handle && cached && [&] {
        const auto now = fingerprint(path);
        return !now || *now != model;
    }();
    if (handle && (unfit || changed)) {
        llama_model_free(handle);
        packed.clear();
        PackedLoadOptions again = options;
        again.choice.way = unfit ? "ternary" : again.choice.way;
        again.cache = changed ? PackCache{} : again.cache;
        return load(path, params, again, cancel);
    }
    if (!handle || packed.empty()) {
        return handle;
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
    return handle;
}

void PackedLoad::Writer::start(const PackCache & cache, const Fingerprint & model, const std::string & kernels, std::shared_ptr<kernels::PackedWeights> weights) {
    thread_ = std::thread([this, cache, model, kernels, weights = std::move(weights)] {
        const char * const what = "packed weights are not kept: ";
        try {
            const auto stored = cache.store(model, kernels.c_str(), *weights, cancel_);
            if (!stored && !cancel_) {
                log_line(LogLevel::warn, what + stored.error().message);
            }
        } catch (const std::exception & e) { // no memory, a folder that cannot be read: the model works without
            log_line(LogLevel::warn, std::string(what) + e.what());
        }
    });
}

PackedLoad::Writer::~Writer() {
    cancel_ = true;
    if (thread_.joinable()) {
        thread_.join();
    }
}

} // namespace ternion
