// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/layers/attention_functions.h"

namespace kernelhub::layers {

/// A package whose attention a model may call.
struct AttentionPackage {
  std::string repo;
  KernelSpec spec;
  std::string op;  // empty: "attention_forward", else "fwd"
};

/// "owner/repo[@revision][:op]", or nothing where `name` is not of that form. Without a revision
/// `version_of(repo)` is asked for.
std::optional<AttentionPackage> parse_attention_package(
    std::string_view name, const std::function<std::int64_t(std::string_view)>& version_of);

/// Loads the package and returns a function that calls its op on [batch, rows, heads, dim] views;
/// padding hidden by a mask is taken out before the call and put back after it. `name` is for
/// errors. Throws every error of get_kernel; kOpNotFound; kSchemaMismatch.
AttentionFunction load_attention(std::string name, const AttentionPackage& package,
                                 const LoadOptions& options);

}  // namespace kernelhub::layers
