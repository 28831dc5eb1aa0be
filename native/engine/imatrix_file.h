// Importance matrices: how much each column of a matrix matters, as llama-imatrix measures it.
#pragma once

#include "error.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ternion {

struct ImatrixFile {
    /// By the matrix's name: the mean square of each column's activations; of a mixture one row per expert.
    std::map<std::string, std::vector<float>> entries;
    std::string dataset; // what it was measured on, may be empty
    int32_t chunks = 0;  // and on how much of it; 0: not said

    /// Reads the GGUF format, and the one of before (.dat). model_not_found, or model_invalid for what is neither, and for values
    /// that are negative or not finite. Any thread.
    static Result<ImatrixFile> read(const std::string & path);
};

} // namespace ternion
