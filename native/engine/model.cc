#include "model.h"

#include "gguf_check.h"
#include "kernel_choice.h"
#include "log.h"
#include "placement.h"
#include "upstream_assertions.h"

#include <../src/llama-ext.h> // llama_model_n_expert

#include <algorithm>
#include <climits>
#include <cstdio>
#include <filesystem>
#include <map>
#include <set>

namespace ternion {
namespace {

std::string meta(const llama_model * model, const char * key) {
    char buffer[256];
    const int32_t n = llama_model_meta_val_str(model, key, buffer, sizeof(buffer));
    return n > 0 ? std::string(buffer, std::min<size_t>(static_cast<size_t>(n), sizeof(buffer) - 1)) : std::string();
}

/// Upstream says why a load failed only in its log. Its words are matched here and nowhere else.
ErrorCode classify_load_failure(const std::string & log) {
    const auto says = [&](const char * words) { return log.find(words) != std::string::npos; };
    if (says("unable to allocate") || says("failed to allocate") || says("out of memory") || says("bad_alloc") ||
        says("allocate buffer")) {
        return ErrorCode::out_of_memory;
    }
    if (says("unknown model architecture") || says("unsupported model architecture") || says("unknown pre-tokenizer") ||
        says("CLIP cannot be used") || says("which is not supported")) {
        return ErrorCode::model_unsupported;
    }
    return ErrorCode::model_invalid;
}

struct Progress {
    const std::function<void(float)> & report;
    const std::atomic<bool> & cancel;
};

} // namespace

Result<std::shared_ptr<Model>> Model::load(const ModelOptions & options, const std::function<void(float)> & progress,
                                           const std::atomic<bool> & cancel) {
    backend_init();
    const auto file = check_model_file(options.path, !options.vocab_only);
    if (!file) {
        return file.error();
    }
    const auto chosen = kernels_by_name(options.kernels);
    if (!chosen) {
        return chosen.error();
    }
    auto devices = find_gpu_devices(options.devices);
    if (!devices) {
        return devices.error();
    }

    auto overrides = TensorOverrides::make(options.overrides, *devices);
    if (!overrides) {
        return overrides.error();
    }

    std::vector<ggml_backend_dev_t> handles;
    for (const Device & device : *devices) {
        handles.push_back(device.handle);
    }
    handles.push_back(nullptr);

    Progress state{progress, cancel};
    llama_model_params params = llama_model_default_params();
    params.devices = handles.data(); // an empty list: CPU only; null would mean "all there are"
    params.n_gpu_layers = devices->empty() ? 0 : options.gpu_layers;
    // Mapped data that ggml would find misaligned is read.
    const bool aligned = file->alignment % ggml_backend_buft_get_alignment(ggml_backend_cpu_buffer_type()) == 0;
    params.load_mode = options.mmap && aligned && !options.dry ? LLAMA_LOAD_MODE_AUTO : LLAMA_LOAD_MODE_NONE;
    params.vocab_only = options.vocab_only;
    params.no_alloc = options.dry;
    params.use_extra_bufts = devices->empty() || !options.as_in_file;
    params.tensor_buft_overrides = devices->empty() ? nullptr : overrides->list();
    params.progress_callback_user_data = &state;
    params.progress_callback = [](float fraction, void * user) {
        const auto * p = static_cast<Progress *>(user);
        if (p->report) {
            p->report(fraction);
        }
        return !p->cancel.load(std::memory_order_relaxed);
    };

    std::shared_ptr<Model> model(new Model);
    LogCapture capture;
    try {
        const auto registry = registry_in_use();
        const CatchAssertions caught;
        // Beside a GPU, layers that stay on the CPU are upstream's: where weights go is then decided by other rules.
        if (devices->empty() && !options.vocab_only) {
            model->handle_.reset(model->packed_load_.load(options.path, params, {*chosen, options.packs, options.threads}, cancel));
        } else {
            model->handle_.reset(llama_model_load_from_file(options.path.c_str(), params));
        }
    } catch (const std::exception & e) {
        log_line(LogLevel::error, e.what());
    }
    if (cancel) {
        return Error{ErrorCode::aborted, "loading was aborted"};
    }
    if (!model->handle_) {
        const std::string why = capture.text("llama.cpp gave no reason");
        return Error{classify_load_failure(why), options.path + ": " + why, {{"path", options.path}}};
    }
    if (auto ok = check_loaded_model(model->handle(), options.path); !ok) {
        return ok.error();
    }
    if (!options.vocab_only) {
        const int32_t all = llama_model_n_layer(model->handle()) + 1;
        model->gpu_layers_ = devices->empty() ? 0 : (options.gpu_layers < 0 ? all : std::min(options.gpu_layers, all));
        if (auto ok = model->check_placement(*devices, *overrides, options.allow_refused_weights); !ok) {
            return ok.error();
        }
        model->weights_ = devices->empty() ? model->packed().places : weight_places(model->handle());
    }
    model->read_info(options.path);
    return model;
}

// Upstream puts a tensor that its device cannot compute with on the CPU without a word. Layers that were asked for on
// a device must be there, unless the caller said otherwise.
Result<bool> Model::check_placement(const std::vector<Device> & devices, const TensorOverrides & overrides, bool allow_refused) {
    if (auto ok = overrides.check(handle()); !ok) {
        return ok.error();
    }
    if (devices.empty()) {
        return true;
    }
    const int32_t n_layer = llama_model_n_layer(handle());
    const int32_t first_on_gpu = std::max(0, n_layer + 1 - gpu_layers_);
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(handle())) {
        int layer = -1;
        if (std::sscanf(name.c_str(), "blk.%d.", &layer) != 1 || layer < first_on_gpu || !tensor->buffer) {
            continue;
        }
        const TensorOverride * override = overrides.find(name);
        if (is_cpu_memory(ggml_backend_buffer_get_type(tensor->buffer)) && !(override && override->device == "cpu")) {
            if (allow_refused) {
                refused_weights_.insert(name);
                continue;
            }
            return Error{ErrorCode::model_unsupported,
                         "device '" + devices.front().id + "' cannot compute with " + ggml_type_name(tensor->type) +
                             " (tensor " + name + "), so the model would run on the CPU; ask for the CPU or fewer layers, or set allowFallback",
                         {{"device", devices.front().id}, {"tensor", name}, {"type", std::string(ggml_type_name(tensor->type))}}};
        }
    }
    return true;
}

void Model::read_info(const std::string & path) {
    const llama_model * model = handle();
    info_.name = meta(model, "general.name");
    if (info_.name.empty()) {
        info_.name = std::filesystem::path(path).stem().string();
    }
    info_.architecture = meta(model, "general.architecture");
    info_.quantization = llama_ftype_name(llama_model_ftype(model));
    info_.parameters = llama_model_n_params(model);
    std::error_code ec;
    info_.file_bytes = std::filesystem::file_size(path, ec);
    info_.trained_context = llama_model_n_ctx_train(model);
    info_.vocabulary = llama_vocab_n_tokens(vocab());
    info_.embedding_size = llama_model_n_embd(model);
    info_.layers = llama_model_n_layer(model);
    info_.experts = llama_model_n_expert(model);
    info_.has_chat_template = llama_model_chat_template(model, nullptr) != nullptr;
    info_.recurrent = llama_model_is_recurrent(model);
    info_.hybrid = llama_model_is_hybrid(model);
    info_.encoder = llama_model_has_encoder(model);
    // Upstream makes a KV cache for these, and then leaves it unused.
    static const std::set<std::string> see_both_ways = {"gemma-embedding", "llama-embed"};
    info_.causal = see_both_ways.count(info_.architecture) == 0 && meta(model, (info_.architecture + ".attention.causal").c_str()) != "false";
    static const std::map<std::string, std::string> pooling = {{"0", "none"}, {"1", "mean"}, {"2", "cls"}, {"3", "last"}, {"4", "rank"}};
    const auto found = pooling.find(meta(model, (info_.architecture + ".pooling_type").c_str()));
    info_.pooling = found == pooling.end() ? "unspecified" : found->second;
}

Result<std::vector<llama_token>> Model::tokenize(const std::string & text, bool add_special, bool parse_special) const {
    if (text.size() > static_cast<size_t>(INT32_MAX) - 16) {
        return Error{ErrorCode::invalid_arg, "text of " + std::to_string(text.size()) + " bytes is longer than 2 GiB"};
    }
    if (llama_vocab_type(vocab()) == LLAMA_VOCAB_TYPE_NONE) {
        return Error{ErrorCode::model_unsupported, "the model has no tokenizer"};
    }
    try {
        const CatchAssertions caught;
        // Never more tokens than bytes, plus the special ones at both ends.
        std::vector<llama_token> tokens(text.size() + 16);
        int32_t n = llama_tokenize(vocab(), text.data(), static_cast<int32_t>(text.size()), tokens.data(),
                                   static_cast<int32_t>(tokens.size()), add_special, parse_special);
        if (n < 0 && n != INT32_MIN) {
            tokens.resize(static_cast<size_t>(-n));
            n = llama_tokenize(vocab(), text.data(), static_cast<int32_t>(text.size()), tokens.data(),
                               static_cast<int32_t>(tokens.size()), add_special, parse_special);
        }
        if (n < 0) {
            return Error{ErrorCode::internal, "tokenisation failed"};
        }
        tokens.resize(static_cast<size_t>(n));
        return tokens;
    } catch (const std::out_of_range &) {
        return Error{ErrorCode::model_invalid, "the vocabulary has no tokens for some bytes of the text; expected one for each byte that no other token has. Get the model's file again, or convert the model again"};
    } catch (const std::exception & e) {
        return Error{ErrorCode::internal, std::string("tokenisation failed: ") + e.what()};
    }
}

Result<bool> Model::check_tokens(const std::vector<llama_token> & tokens) const {
    for (const llama_token token : tokens) {
        if (token < 0 || token >= info_.vocabulary) {
            return Error{ErrorCode::invalid_arg,
                         "token " + std::to_string(token) + " is not in the vocabulary (0 to " + std::to_string(info_.vocabulary - 1) + ")",
                         {{"token", static_cast<double>(token)}}};
        }
    }
    return true;
}

Result<std::string> Model::detokenize(const std::vector<llama_token> & tokens, bool special) const {
    if (auto ok = check_tokens(tokens); !ok) {
        return ok.error();
    }
    try {
        const CatchAssertions caught;
        std::string text(tokens.size() * 8 + 16, '\0');
        for (int attempt = 0; attempt < 2; ++attempt) {
            const int32_t n = llama_detokenize(vocab(), tokens.data(), static_cast<int32_t>(tokens.size()), text.data(),
                                               static_cast<int32_t>(text.size()), false, special);
            text.resize(static_cast<size_t>(n < 0 ? -n : n));
            if (n >= 0) {
                return text;
            }
        }
    } catch (const std::exception & e) {
        return Error{ErrorCode::internal, std::string("detokenisation failed: ") + e.what()};
    }
    return Error{ErrorCode::internal, "detokenisation failed"};
}

std::string Model::piece(llama_token token, bool special) const {
    char buffer[64];
    int32_t n = llama_token_to_piece(vocab(), token, buffer, sizeof(buffer), 0, special);
    if (n >= 0) {
        return std::string(buffer, static_cast<size_t>(n));
    }
    std::string text(static_cast<size_t>(-n), '\0');
    n = llama_token_to_piece(vocab(), token, text.data(), static_cast<int32_t>(text.size()), 0, special);
    text.resize(n > 0 ? static_cast<size_t>(n) : 0);
    return text;
}

} // namespace ternion
