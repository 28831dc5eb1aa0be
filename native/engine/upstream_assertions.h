// What llama.cpp and ggml assert, as errors instead of the end of the process, where a file may be the reason.
#pragma once

#include "error.h"

#include "llama.h"

#include <string>

namespace ternion {

/// While alive, an assertion of upstream's that fails on this thread throws std::runtime_error with what was asserted, without the
/// path of its source. For work that allocates and describes only (reading a model, making a context, text): what is left behind is freed
/// by its owners. Not while ggml computes: the other threads of its pool would wait for this one for ever.
/// Elsewhere a failed assertion ends the process, with the message on stderr.
class CatchAssertions {
  public:
    CatchAssertions();
    ~CatchAssertions();
    CatchAssertions(const CatchAssertions &) = delete;
    CatchAssertions & operator=(const CatchAssertions &) = delete;

    /// As if one lived until the calling thread ends: for threads of upstream's that catch what is thrown on them.
    static void for_rest_of_thread();
    /// Once, before anything else of upstream's.
    static void install();

    /// While alive, they end the process again: what is thrown through a lock of ggml's would leave it locked.
    class Pause {
      public:
        Pause();
        ~Pause();
        Pause(const Pause &) = delete;
        Pause & operator=(const Pause &) = delete;

      private:
        const bool outer_;
    };

  private:
    const bool outer_;
};

/// llama_init_from_model() under CatchAssertions; null as that, with the reason in the log.
llama_context * make_llama_context(llama_model * model, const llama_context_params & params);
/// Whether upstream's words, which may be an assertion's, mean that memory could not be had.
bool means_no_memory(const std::string & why);
/// Why that was null, by the log: out_of_memory, or model_unsupported.
Error no_context(const std::string & what, const std::string & why);

} // namespace ternion
