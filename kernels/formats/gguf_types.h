/* Type numbers of GGUF files that more than one project gave to more than one format.
 *
 * What a number means is decided by the bytes that a tensor takes up: the block sizes of the formats in question never give the
 * same size. Compiled into ggml's GGUF reader (vendor/patches/0006). Any thread.
 */
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ternion::formats {

/// The number of STQ1_0 in memory. Far above upstream's, in no file.
constexpr int32_t stq1_0_type = 128;
/// The number and the general.file_type that we write, Tencent's own.
constexpr int32_t stq1_0_file_number = 43;
constexpr uint32_t stq1_0_file_type = 42;
/// A file with this key means STQ1_0 with groups as stq1_0.h draws them.
constexpr const char * stq1_0_key = "general.stq1_0.layout";
constexpr const char * stq1_0_layout = "stride16";

/// A row of a file's tensor table.
struct TableRow {
    std::string name;
    int64_t row_weights = 0; // of the first dimension
    int64_t weights = 0;     // of all
    int32_t number = 0;
    uint64_t offset = 0; // bytes, from the start of the data
};

/// What else the file says.
struct FileFacts {
    uint64_t data_bytes = 0; // from the start of the data to the end of the file
    uint64_t alignment = 32; // of tensors, bytes
    int32_t upstream_count = 0; // numbers below it are upstream's
    std::string architecture;   // general.architecture, may be empty
    std::string stq1_0_layout;  // of stq1_0_key, may be empty
};

/// Puts ggml's numbers into `table`, or returns why that cannot be done, in a sentence for users. Rows may be in any order.
std::string resolve_types(std::vector<TableRow> & table, const FileFacts & facts);

/// The number to write into a file for a type of ggml.
constexpr int32_t file_number(int32_t type) {
    return type == stq1_0_type ? stq1_0_file_number : type;
}

} // namespace ternion::formats
