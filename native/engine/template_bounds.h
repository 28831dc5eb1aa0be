// What a chat template may cost. It comes with the model's file, so it is a stranger's program.
#pragma once

#include "error.h"

#include <cstddef>
#include <string>

namespace ternion {

/// Whether llama.cpp's recursive parser may see it: at most 256 KiB, 100 levels of brackets and of statements (an `elif`
/// counts as one), 4000 tokens between a pair of delimiters. Fails with template_failed.
Result<bool> check_template(const std::string & source);

/// While alive, what this thread renders may take so many steps, copied bytes and levels of recursion, and no more: past
/// them everything throws (patch 0021). For one thread, not nested.
class TemplateBounds {
  public:
    /// Of one parse or rendering: more input may take more.
    TemplateBounds(size_t messages, size_t input_bytes);
    ~TemplateBounds();
    TemplateBounds(const TemplateBounds &) = delete;
    TemplateBounds & operator=(const TemplateBounds &) = delete;

    /// Upstream goes on after some errors of a template; this one is final.
    bool exceeded() const;
    static Error error();
};

} // namespace ternion
