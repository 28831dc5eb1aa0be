// Files and folders of this user alone, in places that others may be able to write to.
#pragma once

#include <cstdio>
#include <string>
#include <system_error>

namespace ternion {

/// Whose files are read: anybody's, or only those that open_trusted() opens.
enum class WrittenBy { anybody, self };

/// Makes `folder` and what is missing above it, with mode 0700; what is there stays as it is.
std::error_code make_private_folders(const std::string & folder);

/// Opens a new file for writing, with mode 0600 if it is to be `secret`, else as the umask says. What stands under the name is
/// removed first, never followed or written to. Null: errno says why.
FILE * create_file(const std::string & path, bool secret);

/// Opens a regular file that only this user or root can have written: theirs, and not writable for everybody. Null for anything
/// else, also for a pipe or a device, without waiting for its other end.
FILE * open_trusted(const std::string & path);

/// Why others could put files of theirs in the place of what is in `folder`, in words that follow its name: it is another user's, or
/// all may write to it or to one above it, and no sticky bit protects what is there. Empty if they could not.
std::string why_others_may_replace(const std::string & folder);

} // namespace ternion
