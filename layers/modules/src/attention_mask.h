// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/layers/attention_functions.h"

namespace kernelhub::layers {

/// True where query i of S sees key j of K by causality and window, [S, K]; nothing where every
/// query sees every key.
std::optional<at::Tensor> visible_keys(const at::Tensor& query, const at::Tensor& key,
                                       const AttentionArguments& arguments);

/// `mask` in four dims. Throws LayerError kInvalidArgument unless it is bool or floating and
/// [batch, keys] or broadcasts to [batch, heads, queries, keys].
at::Tensor checked_mask(std::string_view function, const at::Tensor& mask, const at::Tensor& query,
                        const at::Tensor& key);

/// What a checked mask, causality and window hide together; nothing where all is seen.
std::optional<at::Tensor> whole_mask(std::string_view function,
                                     const std::optional<at::Tensor>& mask, const at::Tensor& query,
                                     const at::Tensor& key, const AttentionArguments& arguments);

/// [batch, kv heads, keys, dim] with each head `times` times in a row: [batch, heads, keys, dim].
at::Tensor repeat_heads(const at::Tensor& heads, std::int64_t times);

/// Ranks, head counts, dims and scalar arguments of one call; query heads per kv head.
/// Throws LayerError kInvalidArgument naming the tensor or field.
std::int64_t checked_group(std::string_view function, const at::Tensor& query,
                           const at::Tensor& key, const at::Tensor& value,
                           const AttentionArguments& arguments);

}  // namespace kernelhub::layers
