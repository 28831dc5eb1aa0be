// Which of our kernels weights are packed for.
#pragma once

#include "error.h"

#include "kernels/cpu/kernels.h"

#include <mutex>
#include <shared_mutex>
#include <string>

namespace ternion {

/// Null for upstream's ("" and "upstream"). Unknown names are an invalid_arg with the known ones.
Result<const kernels::Kernels *> kernels_by_name(const std::string & name);

/// While it lives, weights that are put into memory go where `chosen` wants them; null: upstream's. The choice is the process's, so
/// whoever packs for kernels of ours has it for itself. Any thread.
class KernelChoice {
  public:
    explicit KernelChoice(const kernels::Kernels * chosen);
    ~KernelChoice();
    KernelChoice(const KernelChoice &) = delete;
    KernelChoice & operator=(const KernelChoice &) = delete;

  private:
    std::shared_lock<std::shared_mutex> shared_;
    std::unique_lock<std::shared_mutex> alone_;
};

} // namespace ternion
