#include "timings_file.h"

#include "partial_file.h"
#include "private_files.h"

#include "kernels/cpu/last_level_cache.h"
#include "kernels/cpu/ways.h"

#include "ggml-cpu.h"

#include <filesystem>
#include <memory>
#include <sstream>
#include <system_error>

namespace ternion {
namespace {

namespace fs = std::filesystem;

// Raised when a kernel becomes faster or slower; with layout_version, since packs stay as they were chosen.
constexpr int version = 1;
constexpr size_t largest = 1 << 20; // of the file, in bytes: a line is of some 60

std::string path_in(const std::string & folder) {
    return (fs::path(folder) / ("timings-" + std::to_string(version) + ".txt")).string();
}

std::string processor() {
    std::ostringstream line;
    line << ggml_backend_dev_description(ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0)) << ", cache of " << kernels::last_level_cache() << " bytes";
    return line.str();
}

/// The file's lines below the first; empty if it is of another processor.
std::string lines_of(const std::string & path) {
    const std::unique_ptr<FILE, int (*)(FILE *)> file(open_trusted(path), std::fclose);
    if (!file) {
        return "";
    }
    std::string text(largest, '\0');
    text.resize(std::fread(text.data(), 1, text.size(), file.get()));
    std::istringstream in(text);
    std::string first;
    if (!std::getline(in, first) || first != processor()) {
        return "";
    }
    std::ostringstream rest;
    rest << in.rdbuf();
    return rest.str();
}

} // namespace

void read_timings(const std::string & folder) {
    if (!folder.empty()) {
        kernels::Timings::instance().restore(lines_of(path_in(folder)));
    }
}

void write_timings(const std::string & folder) {
    if (folder.empty()) {
        return;
    }
    read_timings(folder); // others may have found out more meanwhile
    const std::string lines = kernels::Timings::instance().save(), path = path_in(folder);
    if (lines == lines_of(path)) {
        return;
    }
    if (make_private_folders(folder)) {
        return;
    }
    const std::string text = processor() + "\n" + lines;
    PartialFile file(path, PartialFile::Readers::owner);
    if (file.get() && file.write(text.data(), text.size())) {
        file.commit();
    }
}

} // namespace ternion
