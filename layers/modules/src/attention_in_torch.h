// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/layers/attention_functions.h"

/// The attention functions that need no package; contracts in attention_functions.h.
namespace kernelhub::layers {

Attention attend_eagerly(const torch::nn::Module& module, const at::Tensor& query,
                         const at::Tensor& key, const at::Tensor& value,
                         const std::optional<at::Tensor>& mask,
                         const AttentionArguments& arguments);

Attention attend_by_sdpa(const torch::nn::Module& module, const at::Tensor& query,
                         const at::Tensor& key, const at::Tensor& value,
                         const std::optional<at::Tensor>& mask,
                         const AttentionArguments& arguments);

}  // namespace kernelhub::layers
