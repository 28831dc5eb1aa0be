// Which kernels a model's products are computed with, and how its weights are held for them.
#pragma once

#include "error.h"

#include "kernels/cpu/kernels.h"

#include "ggml.h"

#include <string>
#include <vector>

namespace ternion {

struct KernelChoice {
    const kernels::Kernels * kernels = nullptr; // ours, that weights are packed for; null: upstream's, weights as in the file
    std::string way;                            // of those that have it; empty: the fastest here
    bool float32 = false;                       // without kernels of ours: the reference that rounds no activations
};

/// Names of sets of this processor, fastest first, each followed by `set/way` for the ways that a weight's format leaves to choose from.
std::vector<std::string> kernel_names();

/// Whether weights of a type can be had in the way of a choice that names one.
bool has_way(const KernelChoice & choice, ggml_type type);

/// The fastest of this processor for "", none of ours for "upstream" and "float32". Unknown names are an invalid_arg with the known ones.
Result<KernelChoice> kernels_by_name(const std::string & name);

} // namespace ternion
