#include "quantize.h"

#include "backend.h"
#include "block_layout.h"
#include "gguf_check.h"
#include "imatrix_file.h"
#include "log.h"
#include "partial_file.h"
#include "relative_error.h"
#include "upstream_assertions.h"

#include "ggml.h"
#include "llama.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>

namespace ternion {
namespace {

namespace fs = std::filesystem;

constexpr size_t buffer_bytes = 8 << 20; // what upstream holds of a tensor at a time

struct NamedFileType {
    const char * name;
    llama_ftype type;
};

// Upstream's mixtures under upstream's names.
constexpr NamedFileType file_types[] = {
    {"F32", LLAMA_FTYPE_ALL_F32},
    {"F16", LLAMA_FTYPE_MOSTLY_F16},
    {"BF16", LLAMA_FTYPE_MOSTLY_BF16},
    {"Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},
    {"Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},
    {"Q4_1", LLAMA_FTYPE_MOSTLY_Q4_1},
    {"Q5_0", LLAMA_FTYPE_MOSTLY_Q5_0},
    {"Q5_1", LLAMA_FTYPE_MOSTLY_Q5_1},
    {"Q2_K", LLAMA_FTYPE_MOSTLY_Q2_K},
    {"Q2_K_S", LLAMA_FTYPE_MOSTLY_Q2_K_S},
    {"Q3_K", LLAMA_FTYPE_MOSTLY_Q3_K_M},
    {"Q3_K_S", LLAMA_FTYPE_MOSTLY_Q3_K_S},
    {"Q3_K_M", LLAMA_FTYPE_MOSTLY_Q3_K_M},
    {"Q3_K_L", LLAMA_FTYPE_MOSTLY_Q3_K_L},
    {"Q4_K", LLAMA_FTYPE_MOSTLY_Q4_K_M},
    {"Q4_K_S", LLAMA_FTYPE_MOSTLY_Q4_K_S},
    {"Q4_K_M", LLAMA_FTYPE_MOSTLY_Q4_K_M},
    {"Q5_K", LLAMA_FTYPE_MOSTLY_Q5_K_M},
    {"Q5_K_S", LLAMA_FTYPE_MOSTLY_Q5_K_S},
    {"Q5_K_M", LLAMA_FTYPE_MOSTLY_Q5_K_M},
    {"Q6_K", LLAMA_FTYPE_MOSTLY_Q6_K},
    {"IQ1_S", LLAMA_FTYPE_MOSTLY_IQ1_S},
    {"IQ1_M", LLAMA_FTYPE_MOSTLY_IQ1_M},
    {"IQ2_XXS", LLAMA_FTYPE_MOSTLY_IQ2_XXS},
    {"IQ2_XS", LLAMA_FTYPE_MOSTLY_IQ2_XS},
    {"IQ2_S", LLAMA_FTYPE_MOSTLY_IQ2_S},
    {"IQ2_M", LLAMA_FTYPE_MOSTLY_IQ2_M},
    {"IQ3_XXS", LLAMA_FTYPE_MOSTLY_IQ3_XXS},
    {"IQ3_XS", LLAMA_FTYPE_MOSTLY_IQ3_XS},
    {"IQ3_S", LLAMA_FTYPE_MOSTLY_IQ3_S},
    {"IQ3_M", LLAMA_FTYPE_MOSTLY_IQ3_M},
    {"IQ4_NL", LLAMA_FTYPE_MOSTLY_IQ4_NL},
    {"IQ4_XS", LLAMA_FTYPE_MOSTLY_IQ4_XS},
    {"MXFP4_MOE", LLAMA_FTYPE_MOSTLY_MXFP4_MOE},
    {"TQ1_0", LLAMA_FTYPE_MOSTLY_TQ1_0},
    {"TQ2_0", LLAMA_FTYPE_MOSTLY_TQ2_0},
    {"STQ1_0", LLAMA_FTYPE_MOSTLY_STQ1_0},
    {"Q1_0", LLAMA_FTYPE_MOSTLY_Q1_0},
    {"Q2_0", LLAMA_FTYPE_MOSTLY_Q2_0},
    {"COPY", LLAMA_FTYPE_ALL_F32},
};

/// Types for weights that were trained for them, which they hold exactly; others they destroy. Q1_0 (no zero) and Q2_0 (a fourth
/// level, which its quantiser never uses) are alike in that.
bool is_ternary(ggml_type type) {
    return type == GGML_TYPE_TQ1_0 || type == GGML_TYPE_TQ2_0 || type == GGML_TYPE_STQ1_0 || type == GGML_TYPE_Q1_0 || type == GGML_TYPE_Q2_0;
}

bool is_floating(ggml_type type) {
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16;
}

bool is_head(const std::string & name) { return name == "output.weight"; }
bool is_embedding(const std::string & name) { return name == "token_embd.weight" || name == "per_layer_token_embd.weight"; }

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
    return text;
}

std::string short_number(double value) {
    char text[32];
    std::snprintf(text, sizeof(text), "%.2g", value);
    return text;
}

/// What upstream's quantiser is watched with, on the thread that calls it but for the look at `cancel`.
class Watch {
  public:
    Watch(const QuantizeOptions & options, bool ternary_file, int threads, const ImatrixFile * imatrix, const std::function<void(double)> & progress,
          const std::atomic<bool> & cancel)
        : options_(options), ternary_file_(ternary_file), threads_(threads), imatrix_(imatrix), progress_(progress), cancel_(cancel) {}

    llama_model_quantize_observer observer() {
        return {this,
                [](void * self, const ggml_tensor * tensor, ggml_type * type, bool needs_imatrix) { return static_cast<Watch *>(self)->plan(tensor, *type, needs_imatrix); },
                [](void *) { CatchAssertions::for_rest_of_thread(); },
                [](void * self) { return static_cast<Watch *>(self)->cancel_.load(std::memory_order_relaxed); },
                [](void * self, const ggml_tensor * tensor, ggml_type type, const float * weights, const void * data, int64_t n_rows) {
                    return static_cast<Watch *>(self)->rows(tensor, type, weights, data, n_rows);
                }};
    }

    /// Why it was stopped, if it was.
    const std::optional<Error> & refusal() const { return refusal_; }
    QuantizeReport take_report() {
        report_.relative_error = all_.relative();
        return std::move(report_);
    }

  private:
    bool refuse(ErrorCode code, const std::string & message, std::vector<ErrorDetail> details = {}) {
        refusal_ = Error{code, options_.inputs[0] + ": " + message, std::move(details)};
        return false;
    }

    bool plan(const ggml_tensor * tensor, ggml_type & to, bool needs_imatrix);
    bool check_imatrix(const ggml_tensor * tensor, ggml_type to, bool needed);
    bool rows(const ggml_tensor * tensor, ggml_type to, const float * weights, const void * data, int64_t n_rows);
    bool end_tensor(const ggml_tensor * tensor, ggml_type to);

    const QuantizeOptions & options_;
    const bool ternary_file_;
    const int threads_;
    const ImatrixFile * const imatrix_;
    const std::function<void(double)> & progress_;
    const std::atomic<bool> & cancel_;

    std::optional<Error> refusal_;
    QuantizeReport report_;
    uint64_t all_bytes_ = 0, done_bytes_ = 0; // of the input
    bool any_converted_ = false, any_importance_ = false;
    int64_t rows_done_ = 0; // of the tensor at hand
    ErrorSums sums_;        // of the tensor at hand
    ErrorSums all_;
};

bool Watch::plan(const ggml_tensor * tensor, ggml_type & to, bool needs_imatrix) {
    const std::string name = ggml_get_name(tensor);
    const ggml_type from = tensor->type;
    if (ggml_nelements(tensor) == 0) {
        return refuse(ErrorCode::model_invalid, "the tensor " + name + " is empty", {{"tensor", name}});
    }
    all_bytes_ += ggml_nbytes(tensor);
    const bool named = (is_embedding(name) && !options_.embedding.empty()) || (is_head(name) && !options_.head.empty());
    const bool keeps = (is_embedding(name) || is_head(name)) && ternary_file_ && ggml_is_quantized(from) && !named && !options_.allow_requantize;
    // Upstream quantises matrices, of experts at most, of floating types and its own.
    if (keeps || tensor->ne[3] > 1 || !(is_floating(from) || ggml_is_quantized(from))) {
        to = from;
    }
    if (from == to) {
        return true;
    }
    any_converted_ = true;
    if (tensor->ne[0] % ggml_blck_size(to) != 0) { // elsewhere upstream falls back to another type
        return refuse(ErrorCode::invalid_arg, "rows of " + std::string(ggml_type_name(to)) + " are multiples of " + std::to_string(ggml_blck_size(to)) +
                                                  " weights, and those of " + name + " have " + std::to_string(tensor->ne[0]) + "; choose another type for it",
                      {{"argument", std::string(is_head(name) ? "options.head" : "options.embedding")}, {"tensor", name}});
    }
    if (ggml_is_quantized(from) && !is_ternary(from) && !is_floating(to) && !options_.allow_requantize) {
        return refuse(ErrorCode::model_unsupported,
                      name + " was rounded to " + ggml_type_name(from) + " before, and rounding it again to " + ggml_type_name(to) +
                          " makes a worse model than the original weights would give; start from those (F16, BF16 or F32), or allow requantising",
                      {{"tensor", name}, {"from", std::string(ggml_type_name(from))}, {"to", std::string(ggml_type_name(to))}});
    }
    if (!check_imatrix(tensor, to, needs_imatrix)) {
        return false;
    }
    const CatchAssertions::Pause locked; // ggml makes its tables once, under a lock
    ggml_quantize_init(to);
    return true;
}

bool Watch::check_imatrix(const ggml_tensor * tensor, ggml_type to, bool needed) {
    const std::string name = ggml_get_name(tensor);
    const auto fail = [&](const std::string & why) { return refuse(ErrorCode::invalid_arg, why, {{"argument", std::string("options.imatrix")}, {"tensor", name}}); };
    const bool there = imatrix_ && imatrix_->entries.count(name) > 0;
    if (!there) {
        return needed || ggml_quantize_requires_imatrix(to)
                   ? fail(name + " in " + ggml_type_name(to) + " needs an importance matrix" + (imatrix_ ? ", and " + options_.imatrix + " has none for it" : "; give one, or choose a larger type"))
                   : true;
    }
    any_importance_ = true;
    const auto wanted = static_cast<size_t>(tensor->ne[0] * tensor->ne[2]);
    const size_t found = imatrix_->entries.at(name).size();
    // What is measured of an embedding does not fit it; upstream leaves it out.
    if (found != wanted && (name != "token_embd.weight" || ggml_quantize_requires_imatrix(to))) {
        return fail(options_.imatrix + " has " + std::to_string(found) + " values for " + name + ", which has " + std::to_string(wanted) + " columns; it was made with another model");
    }
    return true;
}

bool Watch::rows(const ggml_tensor * tensor, ggml_type to, const float * weights, const void * data, int64_t n_rows) {
    if (cancel_) {
        return refuse(ErrorCode::aborted, "quantising was aborted");
    }
    if (imatrix_ && any_converted_ && !any_importance_) {
        return refuse(ErrorCode::invalid_arg, options_.imatrix + " has no values for any tensor of the model; it was made with another one", {{"argument", std::string("options.imatrix")}});
    }
    if (weights) {
        add_rows(sums_, to, weights, data, n_rows, tensor->ne[0], threads_);
    }
    rows_done_ += n_rows;
    done_bytes_ += static_cast<uint64_t>(n_rows) * ggml_row_size(tensor->type, tensor->ne[0]);
    if (progress_) {
        progress_(static_cast<double>(done_bytes_) / static_cast<double>(all_bytes_));
    }
    return rows_done_ < ggml_nrows(tensor) || end_tensor(tensor, to);
}

bool Watch::end_tensor(const ggml_tensor * tensor, ggml_type to) {
    const ErrorSums sums = std::exchange(sums_, {});
    rows_done_ = 0;
    all_.difference += sums.difference;
    all_.square += sums.square;
    const std::string name = ggml_get_name(tensor);
    const uint64_t bytes = static_cast<uint64_t>(ggml_nrows(tensor)) * ggml_row_size(to, tensor->ne[0]);
    report_.tensors.push_back({name, ggml_type_name(tensor->type), ggml_type_name(to), bytes, sums.relative(), sums.difference == 0.0});
    if (is_ternary(to) && sums.relative() > options_.most_ternary_error) {
        return refuse(ErrorCode::model_unsupported,
                      "the weights of " + name + " were not trained for " + ggml_type_name(to) + ": their relative error would be " + short_number(sums.relative()) + ", more than " +
                          short_number(options_.most_ternary_error) + ", and the model would write nonsense; choose a type like Q4_K_M, or force it",
                      {{"tensor", name}, {"type", std::string(ggml_type_name(to))}, {"relativeError", sums.relative()}});
    }
    return true;
}

/// Upstream's reason in its log, behind its own name for the call.
Error failure(const std::string & path, const std::string & type, std::string why) {
    constexpr std::string_view call = "failed to quantize: ";
    const size_t at = why.find(call);
    why = at == std::string::npos ? why : why.substr(at + call.size());
    const auto says = [&](const char * words) { return why.find(words) != std::string::npos; };
    if (means_no_memory(why)) {
        return {ErrorCode::out_of_memory, path + ": " + why, {{"path", path}}};
    }
    if (says("ggml-quants.c") || says("quantized data validation failed")) {
        return {ErrorCode::model_unsupported, path + ": its weights, or their importance, cannot be quantised to " + type + ", being too large or too uneven: " + why, {{"path", path}, {"type", type}}};
    }
    const ErrorCode code = says("unknown model architecture") ? ErrorCode::model_unsupported : ErrorCode::model_invalid;
    return {code, path + ": " + why, {{"path", path}}};
}

/// What upstream's program notes about an importance matrix; of its path only the name.
std::vector<llama_model_kv_override> notes_on(const ImatrixFile & imatrix, const std::string & path) {
    std::vector<llama_model_kv_override> notes;
    const auto add = [&](const char * key, llama_model_kv_override_type tag) -> llama_model_kv_override & {
        llama_model_kv_override & note = notes.emplace_back();
        note.tag = tag;
        std::snprintf(note.key, sizeof(note.key), "%s", key);
        return note;
    };
    const auto add_text = [&](const char * key, const std::string & text) {
        llama_model_kv_override & note = add(key, LLAMA_KV_OVERRIDE_TYPE_STR);
        std::snprintf(note.val_str, sizeof(note.val_str), "%s", text.c_str());
    };
    add_text("quantize.imatrix.file", fs::path(path).filename().string());
    if (!imatrix.dataset.empty()) {
        add_text("quantize.imatrix.dataset", imatrix.dataset);
    }
    add("quantize.imatrix.entries_count", LLAMA_KV_OVERRIDE_TYPE_INT).val_i64 = static_cast<int64_t>(imatrix.entries.size());
    if (imatrix.chunks > 0) {
        add("quantize.imatrix.chunks_count", LLAMA_KV_OVERRIDE_TYPE_INT).val_i64 = imatrix.chunks;
    }
    notes.emplace_back().key[0] = '\0';
    return notes;
}

} // namespace

Result<QuantizeReport> quantize(const QuantizeOptions & options, const std::function<void(double)> & progress, const std::atomic<bool> & cancel) {
    backend_init();
    const std::string & input = options.inputs.at(0);
    if (auto ok = check_model_file(input, true); !ok) {
        return ok.error();
    }
    const auto * file_type = std::find_if(std::begin(file_types), std::end(file_types), [&](const NamedFileType & each) { return options.type == each.name; });
    if (file_type == std::end(file_types)) {
        return Error{ErrorCode::invalid_arg, "there is no type '" + options.type + "'", {{"argument", std::string("type")}}};
    }
    std::vector<std::string> read_files = options.inputs;
    read_files.push_back(options.imatrix);
    for (const std::string & part : read_files) {
        if (std::error_code ignored; fs::equivalent(part, options.output, ignored)) {
            return Error{ErrorCode::invalid_arg, options.output + " is the input " + part + " itself; choose another name for the output", {{"argument", std::string("output")}}};
        }
    }
    std::optional<ImatrixFile> imatrix;
    if (!options.imatrix.empty()) {
        auto read = ImatrixFile::read(options.imatrix);
        if (!read) {
            return read.error();
        }
        imatrix = std::move(*read);
    }

    llama_model_quantize_params params = llama_model_quantize_default_params();
    params.nthread = options.threads > 0 ? options.threads : default_threads();
    params.ftype = file_type->type;
    params.only_copy = options.type == "COPY";
    params.allow_requantize = true; // the watch decides
    params.max_buf_size = buffer_bytes;
    const auto type_or_none = [](const std::string & name) { return name.empty() ? GGML_TYPE_COUNT : type_by_name(name); };
    params.token_embedding_type = type_or_none(options.embedding);
    params.output_tensor_type = type_or_none(options.head);
    std::vector<llama_model_imatrix_data> importance;
    std::vector<llama_model_kv_override> notes;
    if (imatrix) {
        for (const auto & [name, values] : imatrix->entries) {
            importance.push_back({name.c_str(), values.data(), values.size()});
        }
        importance.push_back({nullptr, nullptr, 0});
        notes = notes_on(*imatrix, options.imatrix);
        params.imatrix = importance.data();
        params.kv_overrides = notes.data();
    }
    const bool ternary_file = is_ternary(type_by_name(lower(options.type))); // these mixtures are called like their type
    Watch watch(options, ternary_file, params.nthread, imatrix ? &*imatrix : nullptr, progress, cancel);
    const llama_model_quantize_observer observer = watch.observer();
    params.observer = &observer;

    // Kept open, so that what upstream writes into it by its name is synced and renamed with it.
    PartialFile file(options.output, PartialFile::Readers::umask);
    if (!file.get()) {
        return io_error(options.output);
    }
    const LogCapture capture;
    const CatchAssertions caught;
    const uint32_t outcome = llama_model_quantize(input.c_str(), file.partial().c_str(), &params);
    if (outcome == 2) {
        return io_error(options.output);
    }
    if (watch.refusal()) {
        return *watch.refusal();
    }
    if (outcome != 0 && cancel) { // on a thread where something else failed just then
        return Error{ErrorCode::aborted, input + ": quantising was aborted"};
    }
    if (outcome != 0) {
        return failure(input, options.type, capture.text("llama.cpp gave no reason"));
    }
    if (!file.commit()) {
        return io_error(options.output);
    }
    QuantizeReport report = watch.take_report();
    std::error_code ignored;
    report.bytes = fs::file_size(options.output, ignored);
    return report;
}

} // namespace ternion
