#include "import.h"

#include "backend.h"
#include "block_layout.h"
#include "import_plan.h"
#include "partial_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

namespace ternion {
namespace {

namespace fs = std::filesystem;

constexpr size_t chunk_bytes = 4 << 20;
constexpr float largest_half = 65504.0f;

uint64_t row_bytes(const ImportTensor & tensor) { return ggml_row_size(tensor.type, tensor.shape[0]); }

/// Reads the input's tensors and writes them one after the other. One thread.
class Writer {
  public:
    Writer(const ImportOptions & options, ImportPlan & plan, PartialFile & out, const std::function<void(double)> & progress, const std::atomic<bool> & cancel)
        : options_(options), plan_(plan), in_(options.input, std::ios::binary), out_(out), progress_(progress), cancel_(cancel) {
        for (const ImportTensor & tensor : plan.tensors) {
            total_ += padded(row_bytes(tensor) * static_cast<uint64_t>(tensor.rows()));
        }
    }

    Result<bool> write_all() {
        for (const ImportTensor & tensor : plan_.tensors) {
            const bool same = !tensor.packing && tensor.type == tensor.source_type;
            plan_.report.kept += same;
            plan_.report.converted += !tensor.packing && !same;
            // What stays as it is goes by bytes: nothing says that its rows are short.
            const uint64_t in_row = same ? 1 : tensor.packing ? packed_row_bytes(*tensor.packing, tensor.shape[0]) : ggml_row_size(tensor.source_type, tensor.shape[0]);
            const uint64_t out_row = same ? 1 : row_bytes(tensor);
            const int64_t rows = same ? static_cast<int64_t>(row_bytes(tensor)) * tensor.rows() : tensor.rows();
            const int64_t step = std::max<int64_t>(1, static_cast<int64_t>(chunk_bytes / std::max(in_row, out_row)));
            for (int64_t row = 0; row < rows; row += step) {
                if (cancel_) {
                    return Error{ErrorCode::aborted, "importing was aborted"};
                }
                const int64_t n = std::min(step, rows - row);
                source_.resize(in_row * static_cast<size_t>(n));
                if (auto ok = read(tensor, tensor.offset + in_row * static_cast<uint64_t>(row), source_.data(), source_.size()); !ok) {
                    return ok.error();
                }
                auto ok = same ? Result<bool>(true) : tensor.packing ? repack(tensor, row, n, in_row) : convert(tensor, n);
                if (!ok) {
                    return ok.error();
                }
                if (auto written = put(same ? source_ : made_); !written) {
                    return written.error();
                }
            }
            made_.assign(padded(written_) - written_, 0);
            if (auto written = put(made_); !written) {
                return written.error();
            }
        }
        return true;
    }

  private:
    Error damaged(const ImportTensor & tensor, const std::string & why) const {
        return {ErrorCode::model_invalid, options_.input + ": tensor " + tensor.name + ": " + why, {{"path", options_.input}, {"tensor", tensor.name}}};
    }

    Result<bool> read(const ImportTensor & tensor, uint64_t offset, void * data, size_t bytes) {
        in_.seekg(static_cast<std::streamoff>(offset));
        if (!in_.read(static_cast<char *>(data), static_cast<std::streamsize>(bytes))) {
            return damaged(tensor, "the file ends within it, or cannot be read");
        }
        return true;
    }

    Result<bool> put(const std::vector<uint8_t> & data) {
        if (!out_.write(data.data(), data.size())) {
            return io_error(options_.output);
        }
        written_ += data.size();
        if (progress_ && total_ > 0) {
            progress_(static_cast<double>(written_) / static_cast<double>(total_));
        }
        return true;
    }

    /// Rows of ternary codes in source_ to blocks in made_.
    Result<bool> repack(const ImportTensor & tensor, int64_t first, int64_t n, size_t in_row) {
        const int64_t width = tensor.shape[0];
        scales_.resize(tensor.scale_per_row ? static_cast<size_t>(n) : 1);
        const uint64_t at = tensor.scales_offset + (tensor.scale_per_row ? sizeof(float) * static_cast<uint64_t>(first) : 0);
        if (auto ok = read(tensor, at, scales_.data(), scales_.size() * sizeof(float)); !ok) {
            return ok;
        }
        weights_.resize(static_cast<size_t>(width));
        made_.resize(row_bytes(tensor) * static_cast<size_t>(n));
        for (int64_t row = 0; row < n; ++row) {
            if (!unpack_row(*tensor.packing, source_.data() + in_row * static_cast<size_t>(row), width, weights_.data())) {
                return damaged(tensor, "row " + std::to_string(first + row) + " has a code that stands for no ternary weight");
            }
            const float scale = scales_[tensor.scale_per_row ? static_cast<size_t>(row) : 0];
            const ggml_fp16_t d = ggml_fp32_to_fp16(scale);
            const float kept = ggml_fp16_to_fp32(d);
            if (!std::isfinite(kept) || (kept == 0.0f && scale != 0.0f)) {
                return damaged(tensor, "row " + std::to_string(first + row) + " has the scale " + std::to_string(scale) + ", which is no number of half precision");
            }
            if (scale != 0.0f) {
                const double error = std::abs(static_cast<double>(kept) / static_cast<double>(scale) - 1.0);
                plan_.report.largest_scale_error = std::max(plan_.report.largest_scale_error, error);
            }
            pack_blocks(tensor.type, weights_.data(), width, d, made_.data() + row_bytes(tensor) * static_cast<size_t>(row));
        }
        return true;
    }

    /// Rows of floating-point numbers in source_ to another type in made_.
    Result<bool> convert(const ImportTensor & tensor, int64_t n) {
        const int64_t weights = n * tensor.shape[0];
        floats_.resize(static_cast<size_t>(weights));
        if (tensor.source_type == GGML_TYPE_F32) {
            std::memcpy(floats_.data(), source_.data(), source_.size());
        } else {
            ggml_get_type_traits(tensor.source_type)->to_float(source_.data(), floats_.data(), weights);
        }
        if (!std::all_of(floats_.begin(), floats_.end(), [](float value) { return std::abs(value) <= largest_half; })) {
            return damaged(tensor, "a weight that is not finite, or too large for " + std::string(ggml_type_name(tensor.type)));
        }
        made_.resize(row_bytes(tensor) * static_cast<size_t>(n));
        ggml_quantize_chunk(tensor.type, floats_.data(), made_.data(), 0, n, tensor.shape[0], nullptr);
        return true;
    }

    const ImportOptions & options_;
    ImportPlan & plan_;
    std::ifstream in_;
    PartialFile & out_;
    const std::function<void(double)> & progress_;
    const std::atomic<bool> & cancel_;
    uint64_t total_ = 0, written_ = 0;
    std::vector<uint8_t> source_, made_;
    std::vector<int8_t> weights_;
    std::vector<float> scales_, floats_;
};

/// That writing the output would not destroy what is read.
Result<bool> check_paths(const ImportOptions & options) {
    for (const std::string & used : {options.input, options.tokenizer}) {
        std::error_code none;
        if (!used.empty() && fs::equivalent(options.output, used, none)) {
            return Error{ErrorCode::invalid_arg, "the output " + options.output + " is the file that is read; name another one", {{"argument", std::string("output")}}};
        }
    }
    return true;
}

Result<ImportPlan> make_plan(const ImportOptions & options, ggml_type type) {
    std::error_code ec;
    const auto status = fs::status(options.input, ec);
    if (!fs::is_regular_file(status) && !fs::is_directory(status)) { // opening a pipe would wait for its other end
        return Error{ErrorCode::model_not_found, options.input + ": " + (ec ? ec.message() : fs::exists(status) ? "no regular file" : "no such file"), {{"path", options.input}}};
    }
    char magic[4] = {};
    std::ifstream file(options.input, std::ios::binary);
    file.read(magic, sizeof(magic));
    if (std::memcmp(magic, "GGUF", 4) == 0) {
        return plan_gguf_import(options, type);
    }
    if (std::memcmp(magic, "H1B", 3) == 0) {
        return plan_h1b_import(options, type);
    }
    return Error{ErrorCode::model_invalid, options.input + ": starts neither with \"GGUF\" nor with \"H1B\"; expected a GGUF file or an .h1b file", {{"path", options.input}}};
}

/// What ggml would end the process over.
Result<bool> check_conversions(const ImportPlan & plan) {
    for (const ImportTensor & tensor : plan.tensors) {
        if (tensor.shape[0] % ggml_blck_size(tensor.type) != 0) {
            return Error{ErrorCode::model_unsupported, "tensor " + tensor.name + ": rows of " + ggml_type_name(tensor.type) + " are multiples of " +
                                                           std::to_string(ggml_blck_size(tensor.type)) + "; found " + std::to_string(tensor.shape[0])};
        }
    }
    return true;
}

} // namespace

int64_t ImportTensor::rows() const {
    int64_t n = 1;
    for (size_t d = 1; d < shape.size(); ++d) {
        n *= shape[d];
    }
    return n;
}

Result<bool> check_rows(const std::string & tensor, int64_t n_weights) {
    if (n_weights % 256 == 0) {
        return true;
    }
    return Error{ErrorCode::model_unsupported, "tensor " + tensor + ": rows of " + std::to_string(n_weights) + " weights; TQ1_0 and TQ2_0 hold whole blocks of 256", {{"tensor", tensor}}};
}

Result<ImportReport> import_model(const ImportOptions & options, const std::function<void(double)> & progress, const std::atomic<bool> & cancel) {
    backend_init();
    const ggml_type type = type_by_name(options.type);
    if (type != GGML_TYPE_TQ1_0 && type != GGML_TYPE_TQ2_0) {
        return Error{ErrorCode::invalid_arg, "ternary matrices become tq1_0 or tq2_0; found '" + options.type + "'", {{"argument", std::string("type")}}};
    }
    if (auto ok = check_paths(options); !ok) {
        return ok.error();
    }
    auto plan = make_plan(options, type);
    if (!plan) {
        return plan.error();
    }
    if (auto ok = check_conversions(*plan); !ok) {
        return ok.error();
    }
    std::vector<TensorRow> table;
    for (const ImportTensor & tensor : plan->tensors) {
        table.push_back({tensor.name, static_cast<uint32_t>(tensor.type), tensor.shape, row_bytes(tensor) * static_cast<uint64_t>(tensor.rows())});
    }
    const std::string header = header_bytes(plan->metadata, table);
    PartialFile file(options.output, PartialFile::Readers::umask);
    if (!file.get() || !file.write(header.data(), header.size())) {
        return io_error(options.output);
    }
    Writer writer(options, *plan, file, progress, cancel);
    if (auto ok = writer.write_all(); !ok) {
        return ok.error();
    }
    if (!file.commit()) {
        return io_error(options.output);
    }
    std::error_code failed;
    plan->report.bytes = fs::file_size(options.output, failed);
    return plan->report;
}

} // namespace ternion
