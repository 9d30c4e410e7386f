// SPDX-License-Identifier: Apache-2.0
#include "attention_in_torch.h"

#include "attention_mask.h"
#include "modules_errors.h"

#include "kernelhub/core/log.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>
#include <torch/nn/module.h>

#include <limits>

namespace kernelhub::layers {
namespace {

constexpr double kHidden = -std::numeric_limits<double>::infinity();

/// torch's fused kernels take grouped heads up to this dim.
constexpr std::int64_t kMaxGroupedDim = 256;

at::Tensor masked(const at::Tensor& logits, const at::Tensor& mask) {
  if (mask.scalar_type() == at::kBool) return logits.masked_fill(mask.logical_not(), kHidden);
  return logits + mask;
}

/// Softmax over the last dim in fp32; a row that sees no key has weights 0, not NaN.
at::Tensor weights_of(const at::Tensor& logits, const std::optional<at::Tensor>& sinks) {
  at::Tensor all = logits.to(at::kFloat);
  if (sinks) {
    const at::Tensor extra = sinks->to(at::kFloat).view({1, -1, 1, 1});
    all = at::cat({all, extra.expand({all.size(0), -1, all.size(2), 1})}, -1);
  }
  at::Tensor weights = at::softmax(all, -1);
  if (sinks) weights = weights.slice(-1, 0, logits.size(-1));
  if (logits.size(-1) == 0) return weights;
  return weights.masked_fill(logits.amax(-1, /*keepdim=*/true) == kHidden, 0.0);
}

}  // namespace

Attention attend_eagerly(const torch::nn::Module& module, const at::Tensor& query,
                         const at::Tensor& key, const at::Tensor& value,
                         const std::optional<at::Tensor>& mask,
                         const AttentionArguments& arguments) {
  const std::int64_t group = checked_group("eager", query, key, value, arguments);
  const at::Tensor keys = repeat_heads(key, group);
  at::Tensor logits = at::matmul(query, keys.transpose(-2, -1)) * arguments.scale;
  if (arguments.softcap > 0.0) {
    logits = at::tanh(logits / arguments.softcap) * arguments.softcap;
  }
  if (const auto seen = whole_mask("eager", mask, query, key, arguments)) {
    logits = masked(logits, *seen);
  }
  at::Tensor weights = weights_of(logits, arguments.sinks).to(query.scalar_type());
  if (arguments.dropout > 0.0) {
    weights = at::dropout(weights, arguments.dropout, module.is_training());
  }
  const at::Tensor out = at::matmul(weights, repeat_heads(value, group));
  return {out.transpose(1, 2).contiguous(),
          arguments.wants_weights ? std::optional<at::Tensor>(weights) : std::nullopt};
}

Attention attend_by_sdpa(const torch::nn::Module& module, const at::Tensor& query,
                         const at::Tensor& key, const at::Tensor& value,
                         const std::optional<at::Tensor>& mask,
                         const AttentionArguments& arguments) {
  const std::int64_t group = checked_group("sdpa", query, key, value, arguments);
  if (arguments.softcap > 0.0) throw modules_errors::attention_lacks("sdpa", "a softcap");
  if (arguments.sinks) throw modules_errors::attention_lacks("sdpa", "sinks");
  if (arguments.wants_weights) {
    warn_once("attention.sdpa.weights",
              "attention function 'sdpa' returns no weights; 'eager' does");
  }
  const double dropout = module.is_training() ? arguments.dropout : 0.0;
  // torch's own causal mask is top-left aligned: with past keys, or a window, it is made here.
  const bool is_square = query.size(2) == key.size(2);
  const bool is_plain_causal =
      !mask && arguments.is_causal && is_square && query.size(2) > 1 && !arguments.sliding_window;
  const std::optional<at::Tensor> seen =
      is_plain_causal ? std::nullopt : whole_mask("sdpa", mask, query, key, arguments);

  const auto attend = [&](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          bool is_grouped) {
    return at::scaled_dot_product_attention(q, k, v, seen, dropout, is_plain_causal,
                                            arguments.scale, is_grouped);
  };
  at::Tensor out;
  const bool is_one_mask = seen && (seen->dim() < 4 || seen->size(1) == 1);
  if (group == 1) {
    out = attend(query, key, value, false);
  } else if (!seen && query.size(3) <= kMaxGroupedDim) {
    out = attend(query, key, value, true);
  } else if (query.size(2) == 1 && is_one_mask) {
    // The queries of a group take the place of the one query: nothing is repeated.
    const at::Tensor folded = query.reshape({query.size(0), key.size(1), group, query.size(3)});
    out =
        attend(folded, key, value, false).reshape({query.size(0), query.size(1), 1, value.size(3)});
  } else {
    out = attend(query, repeat_heads(key, group), repeat_heads(value, group), false);
  }
  return {out.transpose(1, 2).contiguous(), {}};
}

}  // namespace kernelhub::layers
