// What an import is going to write: made from a header, before anything is written.
#pragma once

#include "gguf_raw.h"
#include "import.h"
#include "ternary_pack.h"

#include "ggml.h"

#include <optional>
#include <string>
#include <vector>

namespace ternion {

struct ImportTensor {
    std::string name;
    std::vector<int64_t> shape; // ggml order
    ggml_type type;             // that is written
    ggml_type source_type;      // that is read; of a ternary matrix the same as `type`
    uint64_t offset = 0;        // in the input
    // Of a ternary matrix:
    std::optional<Packing> packing = {};
    uint64_t scales_offset = 0;
    bool scale_per_row = false; // else one for all rows

    int64_t rows() const;
};

struct ImportPlan {
    std::vector<RawEntry> metadata;
    std::vector<ImportTensor> tensors;
    ImportReport report; // all but what comes out while writing
};

Result<ImportPlan> plan_gguf_import(const ImportOptions & options, ggml_type type);
Result<ImportPlan> plan_h1b_import(const ImportOptions & options, ggml_type type);

/// Takes over the tokenizer of another GGUF, whatever was there before.
Result<bool> take_tokenizer(const std::string & path, std::vector<RawEntry> & metadata);

/// Refuses a vocabulary that cannot be the model's, and names its pre-tokenizer where that is known but left out. `rows`
/// are those of the embedding, `is_bitnet` says that the model is of the BitNet family.
Result<bool> check_tokenizer(const ImportOptions & options, int64_t rows, bool is_bitnet, ImportPlan & plan);

/// Refuses rows that TQ1_0 and TQ2_0 cannot hold.
Result<bool> check_rows(const std::string & tensor, int64_t n_weights);

} // namespace ternion
