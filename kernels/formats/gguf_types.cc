#include "gguf_types.h"

#include <algorithm>
#include <map>
#include <set>

namespace ternion::formats {
namespace {

struct Format {
    const char * name;
    int64_t weights; // of a block
    uint64_t bytes;
    int32_t type; // ggml's; negative: we cannot compute with it
};

constexpr Format stq1_0 = {"STQ1_0", 256, 42, stq1_0_type};
// What each disputed number may stand for, upstream's meaning first. Sizes per 256 weights: 144, 72, 42, 68, 65.
const std::map<int32_t, std::vector<Format>> & candidates() {
    static const Format pq2_0 = {"Q2_0 with blocks of 128 weights (PrismML's)", 128, 34, -1};
    static const Format q2_0c = {"Q2_0C (Tencent's)", 512, 130, -1};
    static const std::map<int32_t, std::vector<Format>> all = {
        {40, {{"NVFP4", 64, 36, 40}, stq1_0, q2_0c}},
        {42, {{"Q2_0", 64, 18, 42}, stq1_0, pq2_0}},
        {43, {stq1_0}},
    };
    return all;
}

// Architectures whose published files are STQ1_0; for files that leave no other way to tell.
constexpr const char * stq1_0_architectures[] = {"hunyuan-dense", "hyv4", "hy_v4"};

constexpr int32_t i2_s_number = 36;

std::string quoted(const TableRow & row) {
    return "tensor '" + row.name + "' with type number " + std::to_string(row.number);
}

bool fits(const TableRow & row, const Format & format, uint64_t extent, uint64_t alignment, bool last) {
    if (row.row_weights % format.weights != 0) {
        return false;
    }
    const uint64_t bytes = static_cast<uint64_t>(row.weights / format.weights) * format.bytes;
    const uint64_t padded = (bytes + alignment - 1) / alignment * alignment;
    return extent == padded || (last && extent == bytes); // some writers do not fill up behind the last tensor
}

/// How many bytes lie from each tensor to the next one, or to the end of the file.
std::vector<uint64_t> extents_of(const std::vector<TableRow> & table, uint64_t data_bytes) {
    std::set<uint64_t> starts;
    for (const TableRow & row : table) {
        starts.insert(row.offset);
    }
    std::vector<uint64_t> extents;
    for (const TableRow & row : table) {
        const auto next = starts.upper_bound(row.offset);
        const uint64_t end = next == starts.end() ? data_bytes : *next;
        extents.push_back(end > row.offset ? end - row.offset : 0);
    }
    return extents;
}

bool is_last(const TableRow & row, const std::vector<TableRow> & table) {
    return std::none_of(table.begin(), table.end(), [&](const TableRow & other) { return other.offset > row.offset; });
}

std::string no_format(const TableRow & row, uint64_t extent, const std::vector<Format> & formats) {
    std::string names;
    for (const Format & format : formats) {
        names += (names.empty() ? "" : ", ") + std::string(format.name);
    }
    return quoted(row) + " takes up " + std::to_string(extent) + " bytes for " + std::to_string(row.weights) +
           " weights, which is the size of none of " + names + "; the file is damaged, or written by a program with numbers of its own";
}

} // namespace

std::string resolve_types(std::vector<TableRow> & table, const FileFacts & facts) {
    if (!facts.stq1_0_layout.empty() && facts.stq1_0_layout != stq1_0_layout) {
        return std::string(stq1_0_key) + " is '" + facts.stq1_0_layout + "', a layout which is not supported; expected '" + stq1_0_layout + "'";
    }
    const auto disputed = [&](const TableRow & row) { return candidates().count(row.number) > 0; };
    if (std::none_of(table.begin(), table.end(), [&](const TableRow & row) {
            return disputed(row) || row.number == i2_s_number || row.number < 0 || row.number >= facts.upstream_count;
        })) {
        return "";
    }
    const std::vector<uint64_t> extents = extents_of(table, facts.data_bytes);
    std::map<int32_t, const Format *> seen; // by number: what tensors that fit one format only are
    std::vector<std::vector<const Format *>> fitting(table.size());
    for (size_t i = 0; i < table.size(); ++i) {
        const TableRow & row = table[i];
        if (row.number == i2_s_number) {
            return quoted(row) + " is in I2_S (Microsoft's BitNet), which is not supported; `ternion import` makes a TQ2_0 file of it";
        }
        if (!disputed(row)) {
            if (row.number < 0 || row.number >= facts.upstream_count) {
                return quoted(row) + " is of no known type; expected a number below " + std::to_string(facts.upstream_count) + " or " + std::to_string(stq1_0_file_number);
            }
            continue;
        }
        const std::vector<Format> & formats = candidates().at(row.number);
        for (const Format & format : formats) {
            if (fits(row, format, extents[i], facts.alignment, is_last(row, table))) {
                fitting[i].push_back(&format);
            }
        }
        if (fitting[i].empty()) {
            return no_format(row, extents[i], formats);
        }
        if (fitting[i].size() == 1) {
            seen.emplace(row.number, fitting[i][0]);
        }
    }

    const bool said = !facts.stq1_0_layout.empty();
    const bool usual = std::any_of(std::begin(stq1_0_architectures), std::end(stq1_0_architectures), [&](const char * name) { return facts.architecture == name; });
    for (size_t i = 0; i < table.size(); ++i) {
        if (fitting[i].empty()) {
            continue;
        }
        const auto is = [&](const Format * format) { return std::find(fitting[i].begin(), fitting[i].end(), format) != fitting[i].end(); };
        const Format * chosen = fitting[i].size() == 1 ? fitting[i][0] : nullptr;
        if (const auto other = seen.find(table[i].number); !chosen && other != seen.end() && is(other->second)) {
            chosen = other->second;
        }
        if (!chosen && (said || usual)) {
            const auto stq = std::find_if(fitting[i].begin(), fitting[i].end(), [](const Format * format) { return format->type == stq1_0_type; });
            chosen = stq == fitting[i].end() ? nullptr : *stq;
        }
        if (!chosen) {
            return quoted(table[i]) + " may be " + fitting[i][0]->name + " or " + fitting[i][1]->name + " and nothing in the file tells which; convert the model again with a current program";
        }
        if (chosen->type < 0) {
            return quoted(table[i]) + " is in " + chosen->name + ", which is not supported; convert the model again to a type of llama.cpp";
        }
        table[i].number = chosen->type;
    }
    return "";
}

} // namespace ternion::formats
