// Making a context: what is asked for is checked before anything is allocated, and refused with figures rather than made smaller.
#include "context.h"

#include "fingerprint.h"
#include "host_memory.h"
#include "log.h"
#include "upstream_assertions.h"

#include <../src/llama-context.h> // whether attention was fused, which decides how values lie
#include <../src/llama-model.h>   // sizes of heads
#include <../src/llama-ext.h>     // llama_get_memory_breakdown

#include <build-info.h>

#include <algorithm>
#include <bitset>
#include <cstdlib>

namespace ternion {
namespace {

/// What the words of this build's state mean; to be raised when a patch changes it.
constexpr const char * state_version = "1";

/// Asks the device about the attention of one token over 256 cells.
bool fuses_attention(ggml_backend_dev_t device, const llama_model & model, ggml_type k, ggml_type v) {
    uint32_t layer = 0;
    while (layer + 1 < model.hparams.n_layer() && model.hparams.n_head_kv(layer) == 0) { // recurrent ones have none
        layer++;
    }
    const int64_t heads = model.hparams.n_head(layer), kv_heads = model.hparams.n_head_kv(layer);
    if (kv_heads == 0) {
        return true;
    }
    const std::unique_ptr<ggml_context, decltype(&ggml_free)> graph(ggml_init({16 * ggml_tensor_overhead(), nullptr, true}), ggml_free);
    ggml_context * g = graph.get();
    const int64_t k_size = model.hparams.n_embd_head_k(layer), v_size = model.hparams.n_embd_head_v(layer);
    ggml_tensor * attention = ggml_flash_attn_ext(g, ggml_new_tensor_4d(g, GGML_TYPE_F32, k_size, 1, heads, 1), ggml_new_tensor_4d(g, k, k_size, 256, kv_heads, 1),
                                                  ggml_new_tensor_4d(g, v, v_size, 256, kv_heads, 1), ggml_new_tensor_4d(g, GGML_TYPE_F16, 256, 1, 1, 1), 1.0f, 0.0f, 0.0f);
    return ggml_backend_dev_supports_op(device, attention);
}

/// Whether its layers keep something that cannot be cut: a state, or the cells of a window.
bool needs_checkpoints(const Model & model) {
    return model.info().recurrent || model.info().hybrid || llama_model_n_swa(model.handle()) > 0;
}

} // namespace

Result<std::unique_ptr<Context>> Context::create(std::shared_ptr<Model> model, const ContextOptions & options) {
    std::unique_ptr<Context> context(new Context(std::move(model), options));
    if (auto ok = context->init(); !ok) {
        return ok.error();
    }
    return context;
}

Result<Placement> Context::lay_out(std::shared_ptr<Model> model, const ContextOptions & options) {
    auto context = create_dry(std::move(model), options);
    if (!context) {
        return context.error();
    }
    (*context)->place();
    return (*context)->placement();
}

Result<std::unique_ptr<Context>> Context::create_dry(std::shared_ptr<Model> model, const ContextOptions & options) {
    std::unique_ptr<Context> context(new Context(std::move(model), options));
    for (const auto step : {&Context::check_options, &Context::check_bookkeeping, &Context::make_experts, &Context::make_context, &Context::check_operations}) {
        if (auto ok = (*context.*step)(); !ok) {
            return ok.error();
        }
    }
    return context;
}

Context::Context(std::shared_ptr<Model> model, const ContextOptions & options) : model_(std::move(model)), options_(options) {}

Result<bool> Context::init() {
    for (const auto step : {&Context::check_options, &Context::check_memory, &Context::make_experts, &Context::make_context, &Context::check_operations, &Context::make_cache}) {
        if (auto ok = (this->*step)(); !ok) {
            return ok.error();
        }
    }
    lease_ = std::make_unique<ThreadBudget::Lease>(options_.threads); // laying a context out needs no threads
    place();
    publish();
    thread_ = Thread([this] { run(); });
    return true;
}

Result<bool> Context::check_options() {
    if (options_.threads <= 0) {
        options_.threads = default_threads();
    }
    context_ = options_.context > 0 ? options_.context : static_cast<uint32_t>(model_->info().trained_context);
    const uint64_t cells = options_.kv_tokens > 0 ? options_.kv_tokens : uint64_t{context_} * options_.sequences;
    if (options_.threads > 512) {
        return Error{ErrorCode::invalid_arg, "threads is " + std::to_string(options_.threads) + "; at most 512 are of use"};
    }
    const uint32_t most = static_cast<uint32_t>(llama_max_parallel_sequences()) - KvCache::own_ids;
    if (context_ == 0 || options_.sequences == 0 || options_.sequences > most || cells > INT32_MAX) {
        return Error{ErrorCode::invalid_arg,
                     "context " + std::to_string(context_) + " with " + std::to_string(options_.sequences) + " sequences is impossible: 1 to " +
                         std::to_string(most) + " sequences, at most 2^31 cells"};
    }
    if (cells < context_) {
        return Error{ErrorCode::invalid_arg,
                     "kvTokens is " + std::to_string(cells) + ", but one conversation may have " + std::to_string(context_) +
                         " tokens (context); give it at least as many"};
    }
    if (options_.ubatch > 0 && options_.ubatch < options_.sequences) {
        return Error{ErrorCode::invalid_arg, "ubatch is " + std::to_string(options_.ubatch) + ", but each of " + std::to_string(options_.sequences) +
                                                 " sequences has a token in a step; give it at least as many"};
    }
    options_.kv_tokens = static_cast<uint32_t>(cells);
    // An id costs nothing by itself, but layers with a window or a state keep as many of those as there are ids.
    const bool costly = needs_checkpoints(*model_);
    const uint32_t spare = options_.spare >= 0 ? static_cast<uint32_t>(options_.spare) : costly ? options_.sequences : most;
    options_.spare = static_cast<int32_t>(std::min(spare, most - options_.sequences));
    auto taken = check_kv_types();
    return taken ? check_cells() : taken;
}

// As llama.cpp and ggml would refuse them, some by ending the process.
Result<bool> Context::check_kv_types() const {
    const auto refuse = [&](const std::string & why) {
        return Error{ErrorCode::model_unsupported,
                     std::string("a KV cache of ") + ggml_type_name(options_.kv_k) + " keys and " + ggml_type_name(options_.kv_v) + " values: " + why,
                     {{"k", std::string(ggml_type_name(options_.kv_k))}, {"v", std::string(ggml_type_name(options_.kv_v))}}};
    };
    const llama_model * model = model_->handle();
    for (const bool key : {true, false}) {
        const ggml_type type = key ? options_.kv_k : options_.kv_v;
        for (uint32_t layer = 0; ggml_is_quantized(type) && layer < model->hparams.n_layer(); ++layer) {
            const uint32_t size = key ? model->hparams.n_embd_head_k(layer) : model->hparams.n_embd_head_v(layer);
            if (size % ggml_blck_size(type) != 0) {
                return refuse(std::string("heads of ") + std::to_string(size) + " elements are no whole number of " + ggml_type_name(type) +
                              " blocks of " + std::to_string(ggml_blck_size(type)) + "; take f16 there");
            }
        }
    }
    if (options_.kv_k != options_.kv_v && (model->hparams.is_mla() || model->arch == LLM_ARCH_DEEPSEEK4)) {
        return refuse("this architecture keeps both in one; give them the same type");
    }
    if (!ggml_is_quantized(options_.kv_v)) {
        return true;
    }
    if (options_.attention == FusedAttention::no) {
        return refuse("quantised values need fused attention; take f16 for them, or leave flashAttention to 'auto'");
    }
    if (model->arch == LLM_ARCH_GROK) {
        return refuse("quantised values need fused attention, which this architecture cannot use; take f16");
    }
    // llama.cpp takes it for granted then, and a device without it would leave attention to the CPU without a word.
    for (int32_t i = 0; i < llama_model_n_devices(model); ++i) {
        ggml_backend_dev_t device = llama_model_get_device(model, i);
        if (!fuses_attention(device, *model, options_.kv_k, options_.kv_v)) {
            return refuse(std::string(ggml_backend_dev_description(device)) + " has no fused attention for them; take other types, f16 at least for values");
        }
    }
    return true;
}

Result<bool> Context::make_experts() {
    if (options_.expert_cache_bytes == 0 && !options_.count_experts) {
        return true;
    }
    auto experts = ExpertCache::make(*model_->handle(), {.device_bytes = options_.expert_cache_bytes});
    if (!experts) {
        return experts.error();
    }
    experts_ = std::move(*experts);
    return true;
}

// What a device cannot address as one buffer it cannot keep cells in either: ggml would end the process.
Result<bool> Context::check_cells() const {
    const llama_model * model = model_->handle();
    const auto & sizes = model->hparams;
    const uint64_t ids = sequence_ids() + KvCache::own_ids;
    const auto padded = [](uint64_t cells) { return (cells + 255) / 256 * 256; };
    const uint64_t cells = padded(options_.kv_tokens);
    const uint64_t window = std::min(cells, padded(sizes.n_swa * ids + (options_.ubatch > 0 ? options_.ubatch : 512)));
    const std::unique_ptr<ggml_context, decltype(&ggml_free)> tensors(ggml_init({(4 * sizes.n_layer() + 1) * ggml_tensor_overhead(), nullptr, true}), ggml_free);
    for (uint32_t layer = 0; layer < sizes.n_layer(); ++layer) {
        ggml_backend_dev_t device = model->dev_layer(static_cast<int>(layer));
        if (!device || ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU) {
            continue;
        }
        const bool state = sizes.is_recr(layer);
        const auto rows = static_cast<int64_t>(state ? ids : sizes.is_swa(layer) ? window : cells);
        for (const bool first : {true, false}) {
            const ggml_type type = state ? GGML_TYPE_F32 : first ? options_.kv_k : options_.kv_v;
            const uint32_t width = state ? (first ? sizes.n_embd_r() : sizes.n_embd_s()) : first ? sizes.n_embd_k_gqa(layer) : sizes.n_embd_v_gqa(layer);
            const ggml_tensor * all = ggml_new_tensor_2d(tensors.get(), type, std::max<int64_t>(width, 1), rows);
            if (width > 0 && !ggml_backend_dev_supports_op(device, all)) {
                return Error{ErrorCode::model_unsupported,
                             std::string(ggml_backend_dev_description(device)) + " cannot compute with " + std::to_string(ggml_nbytes(all)) + " bytes at once, which layer " +
                                 std::to_string(layer) + " of a KV cache of " + std::to_string(options_.kv_tokens) + " cells and " + std::to_string(ids) +
                                 " sequence ids would be; take a shorter context, fewer sequences or a KV type of fewer bits",
                             {{"device", device_id_of(ggml_backend_dev_buffer_type(device))}, {"kvTokens", static_cast<double>(options_.kv_tokens)}}};
            }
        }
    }
    return true;
}

// Cells are written to when they are made: what the system promises and does not have would end the process, or others.
Result<bool> Context::check_memory() {
    const llama_model * model = model_->handle();
    uint64_t bytes = 0;
    for (uint32_t layer = 0; layer < model->hparams.n_layer(); ++layer) {
        ggml_backend_dev_t device = model->dev_layer(static_cast<int>(layer));
        const bool on_host = !device || ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
        if (on_host && model->hparams.has_kv(layer) && !model->hparams.is_recr(layer) && !model->hparams.is_swa(layer)) {
            bytes += ggml_row_size(options_.kv_k, model->hparams.n_embd_k_gqa(layer));
            bytes += model->hparams.is_mla() ? 0 : ggml_row_size(options_.kv_v, model->hparams.n_embd_v_gqa(layer)); // in the keys' cells
        }
    }
    return check_cell_bytes(bytes);
}

// A dry context has cells without keys and values, but knows of each who holds it.
Result<bool> Context::check_bookkeeping() { return check_cell_bytes(0); }

Result<bool> Context::check_cell_bytes(uint64_t bytes_each) const {
    constexpr uint64_t bookkeeping = sizeof(std::bitset<LLAMA_MAX_SEQ>) + 4 * sizeof(int32_t); // of llama.cpp, about
    const uint64_t needed = (bytes_each + bookkeeping) * options_.kv_tokens;
    const HostMemory host = host_memory();
    const uint64_t available = host.available_bytes + host.free_swap_bytes;
    if (host.total_bytes == 0 || needed <= available) {
        return true;
    }
    return Error{ErrorCode::out_of_memory,
                 "a KV cache of " + std::to_string(options_.kv_tokens) + " cells takes " + std::to_string(needed) + " bytes of host memory, of which " +
                     std::to_string(available) + " are available; take a shorter context, fewer sequences or a KV type of fewer bits",
                 {{"context", static_cast<double>(context_)},
                  {"sequences", static_cast<double>(options_.sequences)},
                  {"kvTokens", static_cast<double>(options_.kv_tokens)},
                  {"neededBytes", static_cast<double>(needed)},
                  {"availableBytes", static_cast<double>(available)}}};
}

Result<bool> Context::make_context() {
    // A row for each sequence, and none without cells.
    const int32_t ubatch = static_cast<int32_t>(std::min<uint32_t>(options_.ubatch > 0 ? options_.ubatch : 512, std::max(options_.kv_tokens, options_.sequences)));
    options_.ubatch = static_cast<uint32_t>(ubatch);
    llama_context_params params = llama_context_default_params();
    params.n_ctx = options_.kv_tokens;
    params.n_batch = static_cast<uint32_t>(ubatch); // never more than one ubatch per call: see design §3
    params.n_ubatch = static_cast<uint32_t>(ubatch);
    params.n_seq_max = options_.sequences + static_cast<uint32_t>(options_.spare) + KvCache::own_ids;
    params.n_outputs_max = std::min(options_.sequences, static_cast<uint32_t>(ubatch)); // one row of logits each
    params.n_threads = params.n_threads_batch = options_.threads;
    params.type_k = options_.kv_k;
    params.type_v = options_.kv_v;
    params.flash_attn_type = options_.attention == FusedAttention::no ? LLAMA_FLASH_ATTN_TYPE_DISABLED : LLAMA_FLASH_ATTN_TYPE_AUTO;
    params.kv_unified = true;
    params.no_perf = true;
    params.swa_full = false;
    params.abort_callback = [](void * user) { return static_cast<Context *>(user)->abort_requested(); };
    params.abort_callback_data = this;

    LogCapture capture;
    std::string thrown;
    try {
        const auto registry = registry_in_use();
        ctx_.reset(make_llama_context(model_->handle(), params));
        if (ctx_ && experts_) {
            experts_->attach(ctx_.get());
        }
    } catch (const std::exception & e) {
        thrown = e.what();
        ctx_.reset();
    }
    if (!ctx_) {
        const std::string why = capture.text(thrown.empty() ? "llama.cpp gave no reason" : thrown);
        Error error = no_context("no context of " + std::to_string(options_.kv_tokens) + " cells: ", why);
        error.details = {{"context", static_cast<double>(context_)}, {"sequences", static_cast<double>(options_.sequences)}, {"kvTokens", static_cast<double>(options_.kv_tokens)}};
        return error;
    }
    // Asked whether all of the graph's attention runs where its layers are, llama.cpp said no.
    if (options_.attention == FusedAttention::yes && !ctx_->get_cparams().flash_attn) {
        return Error{ErrorCode::model_unsupported, "flashAttention is true, but this model's attention cannot be fused on its devices; leave it to 'auto'"};
    }
    batch_.allocate(ubatch);
    governor_ = ThreadGovernor(model_->on_gpu() ? 1 : options_.threads);
    return true;
}

// The scheduler gives the CPU what a device refuses, without a word.
Result<bool> Context::check_operations() {
    if (!model_->on_gpu()) {
        return true;
    }
    refused_ = refused_operations(ctx_.get(), model_->refused_weights());
    if (refused_.empty() || options_.allow_refused_operations) {
        return true;
    }
    std::string list;
    for (const RefusedOperation & refused : refused_) {
        list += (list.empty() ? "" : ", ") + refused.operation + " (" + refused.types + ", " + std::to_string(refused.count) + " in a graph, from layer " + std::to_string(refused.layer) + " on)";
    }
    return Error{ErrorCode::model_unsupported,
                 "device '" + refused_.front().device + "' refuses " + list + ", so the CPU would compute that; ask for the CPU, other settings, or set allowFallback",
                 {{"device", refused_.front().device}, {"operations", list}}};
}

Result<bool> Context::make_cache() {
    KvCache::Options options;
    options.cells = options_.kv_tokens;
    options.ids = options_.sequences + static_cast<uint32_t>(options_.spare);
    options.checkpoint_bytes = options_.checkpoint_bytes;
    for (const auto & [type, bytes] : llama_get_memory_breakdown(ctx_.get())) {
        options.cell_bytes += bytes.context;
    }
    options.cell_bytes /= llama_n_ctx(ctx_.get()); // rounded up from what was asked for
    const char * rotation = std::getenv("LLAMA_ATTN_ROT_DISABLE"); // read by llama.cpp: quantised keys are rotated unless it is set
    options.settings = {
        {"model", options_.fingerprint},
        {"architecture", model_->info().architecture},
        {"kv.k", ggml_type_name(options_.kv_k)},
        {"kv.v", ggml_type_name(options_.kv_v)},
        {"attention.fused", ctx_->get_cparams().flash_attn ? "yes" : "no"},
        {"attention.rotation", rotation && std::atoi(rotation) != 0 ? "no" : "yes"},
        {"build", std::string(llama_build_info()) + " state " + state_version},
    };
    std::unique_ptr<CacheFolder> folder;
    if (options_.disk_bytes > 0) {
        // One for each kind of state: what is in it under other settings is stale, and removed.
        const std::string folder_name = options_.disk_folder + "/" + options_.fingerprint + "-" + ggml_type_name(options_.kv_k) + "-" + ggml_type_name(options_.kv_v);
        auto opened = CacheFolder::open(folder_name, options.settings);
        if (!opened) {
            return opened.error();
        }
        folder = std::move(*opened);
    }
    store_ = std::make_unique<StateStore>(StateStore::Budget{options_.ram_bytes, options_.disk_bytes}, std::move(folder),
                                          [this](std::function<void()> task) { post(std::move(task)); });
    cache_ = std::make_unique<KvCache>(KvMemory(ctx_.get()), std::move(options), *store_);
    return true;
}

void Context::place() {
    devices_ = device_placements(ctx_.get(), model_->weights());
    if (experts_) {
        for (DevicePlacement & place : devices_) {
            const auto found = experts_->bytes().find(place.device);
            place.expert_cache_bytes = found == experts_->bytes().end() ? 0 : found->second;
        }
    }
}

Placement Context::placement() const {
    Placement all;
    all.devices = devices_;
    all.weights = model_->weights();
    all.refused = refused_;
    all.packed = model_->packed();
    all.gpu_layers = model_->gpu_layers();
    all.layers = model_->info().layers;
    all.threads = options_.threads;
    all.context = context_;
    all.sequences = options_.sequences;
    all.kv_tokens = options_.kv_tokens;
    all.sequence_ids = sequence_ids();
    all.ubatch = options_.ubatch;
    all.fused_attention = ctx_->get_cparams().flash_attn;
    all.checkpoints = needs_checkpoints(*model_);
    return all;
}

} // namespace ternion
