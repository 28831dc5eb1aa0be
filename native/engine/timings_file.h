// What was found to be fastest on this machine, beside the packs: `timings-<version>.txt`, a line each below the name of the processor.
#pragma once

#include <string>

namespace ternion {

/// Into kernels::Timings. A file of another processor or version, or none, is no news. An empty folder: nothing. Any thread.
void read_timings(const std::string & folder);

/// From kernels::Timings, if there is more than the file has. A folder that cannot be written costs the timing once more.
void write_timings(const std::string & folder);

} // namespace ternion
