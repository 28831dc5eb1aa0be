// GGUF files of Microsoft's BitNet: I2_S matrices, and architectures under names of their own.
#include "import_plan.h"

#include "block_layout.h"

#include "gguf.h"

#include <algorithm>

namespace ternion {
namespace {

// Numbers that llama.cpp has given up, or given to other types since.
constexpr uint32_t i2_s_type = 36, tl1_type = 38, tl2_type = 39;
constexpr uint64_t i2_s_tail = 32; // the scale, and padding

Error refused(const ImportOptions & options, ErrorCode code, const std::string & why) {
    return {code, options.input + ": " + why, {{"path", options.input}}};
}

/// BitNet-b1.58-2B-4T under the names of Microsoft's programs.
bool is_alias(const std::string & architecture) { return architecture == "bitnet-b1.58" || architecture == "bitnet-25"; }

/// The one model of that architecture with squared ReLU whose files may not say so.
bool is_2b_4t(const std::vector<RawEntry> & metadata, const std::vector<ImportTensor> & tensors) {
    const auto find = [&](const char * name) {
        return std::find_if(tensors.begin(), tensors.end(), [&](const ImportTensor & tensor) { return tensor.name == name; });
    };
    const auto embedding = find("token_embd.weight");
    return embedding != tensors.end() && embedding->shape == std::vector<int64_t>{2560, 128256} && find("output.weight") == tensors.end() &&
           number_of(metadata, "bitnet.feed_forward_length") == 6912;
}

Result<ImportTensor> plan_i2_s(const ImportOptions & options, const RawGguf & gguf, const RawTensor & tensor, ggml_type type) {
    if (auto ok = check_rows(tensor.name, tensor.shape[0]); !ok) {
        return ok.error();
    }
    uint64_t weights = 1;
    for (const int64_t n : tensor.shape) {
        weights *= static_cast<uint64_t>(n);
    }
    const uint64_t bytes = weights / 4 + i2_s_tail;
    if (tensor.extent < bytes) {
        return refused(options, ErrorCode::model_invalid, "ends within the tensor " + tensor.name + ", which has " + std::to_string(bytes) + " bytes as I2_S");
    }
    if (tensor.extent >= bytes + gguf.alignment) {
        return refused(options, ErrorCode::model_unsupported,
                       "tensor " + tensor.name + " has the number of I2_S, but " + std::to_string(tensor.extent) + " bytes instead of " + std::to_string(bytes));
    }
    const uint64_t offset = gguf.data_offset + tensor.offset;
    return ImportTensor{tensor.name, tensor.shape, type, type, offset, Packing::i2_s, offset + weights / 4, false};
}

Result<ImportTensor> plan_kept(const ImportOptions & options, const RawGguf & gguf, const RawTensor & tensor, ggml_type embedding) {
    const auto type = static_cast<ggml_type>(tensor.type);
    const char * name = tensor.type < GGML_TYPE_COUNT ? ggml_type_name(type) : nullptr;
    const int64_t block = name ? ggml_blck_size(type) : 0;
    uint64_t bytes = block > 0 && tensor.shape[0] % block == 0 ? ggml_type_size(type) : 0;
    if (bytes > 0) {
        bytes *= static_cast<uint64_t>(tensor.shape[0] / block);
        for (size_t d = 1; d < tensor.shape.size(); ++d) {
            bytes *= static_cast<uint64_t>(tensor.shape[d]);
        }
    }
    const bool tl = tensor.type == tl1_type || (tensor.type == tl2_type && (bytes == 0 || tensor.extent < bytes || tensor.extent >= bytes + gguf.alignment));
    if (tl) {
        return refused(options, ErrorCode::model_unsupported,
                       "tensor " + tensor.name + " is of TL1 or TL2, whose layout depends on the kernel that it was made for; make an I2_S file from the original weights");
    }
    if (bytes == 0) {
        return refused(options, ErrorCode::model_unsupported, "tensor " + tensor.name + " has the type number " + std::to_string(tensor.type) + ", which is not known here");
    }
    if (tensor.extent < bytes) {
        return refused(options, ErrorCode::model_invalid, "ends within the tensor " + tensor.name + ", which has " + std::to_string(bytes) + " bytes");
    }
    if (tensor.extent >= bytes + gguf.alignment) {
        return refused(options, ErrorCode::model_unsupported,
                       "tensor " + tensor.name + " has the type number " + std::to_string(tensor.type) + " and " + std::to_string(tensor.extent) + " bytes, as " + name + " it would have " +
                           std::to_string(bytes) + "; the number means something else in the program that wrote the file");
    }
    const bool floating = type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16;
    const bool table = tensor.name == "token_embd.weight" || tensor.name == "output.weight";
    return ImportTensor{tensor.name, tensor.shape, table && floating && embedding != GGML_TYPE_COUNT ? embedding : type, type, gguf.data_offset + tensor.offset};
}

/// Gives the architecture llama.cpp's name, and its keys that name as prefix.
void rename_architecture(const std::string & from, const std::string & to, std::vector<RawEntry> & metadata) {
    for (RawEntry & entry : metadata) {
        if (entry.key.starts_with(from + ".")) {
            entry.key = to + entry.key.substr(from.size());
        }
    }
    set_text(metadata, "general.architecture", to);
}

} // namespace

Result<ImportPlan> plan_gguf_import(const ImportOptions & options, ggml_type type) {
    auto gguf = RawGguf::read(options.input);
    if (!gguf) {
        return gguf.error();
    }
    if (number_of(gguf->metadata, "split.count") > 1 || find_entry(gguf->metadata, "split.no")) {
        return refused(options, ErrorCode::model_unsupported, "is one part of several; join them first");
    }
    ImportPlan plan;
    ImportReport & report = plan.report;
    report.architecture = text_of(gguf->metadata, "general.architecture");
    const bool alias = is_alias(report.architecture);
    const ggml_type embedding = type_by_name(options.embedding);
    int64_t rows = 0;
    for (const RawTensor & tensor : gguf->tensors) {
        auto planned = tensor.type == i2_s_type ? plan_i2_s(options, *gguf, tensor, type) : plan_kept(options, *gguf, tensor, embedding);
        if (!planned) {
            return planned.error();
        }
        report.ternary += planned->packing.has_value();
        if (tensor.name == "token_embd.weight" && tensor.shape.size() == 2) {
            rows = tensor.shape[1];
        }
        plan.tensors.push_back(std::move(*planned));
    }
    if (report.ternary == 0 && !alias) {
        return refused(options, ErrorCode::model_unsupported, "there is nothing to import: it has no I2_S tensors, and its architecture '" + report.architecture + "' is none of Microsoft's names");
    }
    if (rows == 0) {
        return refused(options, ErrorCode::model_unsupported, "there is no token_embd.weight in it");
    }

    plan.metadata = std::move(gguf->metadata);
    std::erase_if(plan.metadata, [](const RawEntry & entry) { return entry.key == "general.alignment"; }); // it is written with the default
    if (alias) {
        rename_architecture(report.architecture, "bitnet", plan.metadata);
        report.architecture = "bitnet";
    }
    const bool bitnet = report.architecture == "bitnet";
    if (bitnet) {
        report.activation = text_of(plan.metadata, "bitnet.feed_forward.activation");
        if (report.activation.empty() && (alias || is_2b_4t(plan.metadata, plan.tensors))) {
            report.activation = "relu2";
            set_text(plan.metadata, "bitnet.feed_forward.activation", report.activation);
        } else if (report.activation.empty()) {
            report.notes.push_back("the file does not say which activation it was trained with, so it will run with SiLU, as the first BitNet models do");
        }
    }
    if (report.ternary > 0) {
        report.source = "GGUF with I2_S";
        report.notes.push_back("I2_S is read in the layout of x86; a file that was made on ARM has the same shape and would come out as noise");
        set_u32(plan.metadata, "general.file_type", type == GGML_TYPE_TQ1_0 ? 36 : 37); // LLAMA_FTYPE_MOSTLY_TQ1_0, _TQ2_0
    } else {
        report.source = "GGUF";
    }
    set_u32(plan.metadata, "general.quantization_version", GGML_QNT_VERSION);
    if (!options.tokenizer.empty()) {
        if (auto ok = take_tokenizer(options.tokenizer, plan.metadata); !ok) {
            return ok.error();
        }
    }
    if (auto ok = check_tokenizer(options, rows, bitnet, plan); !ok) {
        return ok.error();
    }
    return plan;
}

} // namespace ternion
