// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/get_kernel.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace torch::nn {
class Module;
}

/// How a model computes attention, chosen by name (`attn_implementation`).
///
///   const auto attend = kernelhub::attention_function("flash_attention_2");
///   at::Tensor out = attend(*this, query, key, value, {}, {.scale = scale}).out;
namespace kernelhub {

struct AttentionArguments {
  double scale = 1.0;  // factor of the logits
  /// Query i of S sees keys up to i + K - S of K.
  bool is_causal = false;
  /// Keys that a query sees, its own position included; no key farther to the left or right.
  std::optional<std::int64_t> sliding_window;
  double softcap = 0.0;  // c > 0: logits become c * tanh(logits / c) before masking
  double dropout = 0.0;  // probability with which a weight becomes zero
  /// One more logit per head, [heads]: it joins the denominator of the softmax only.
  std::optional<at::Tensor> sinks;
  bool wants_weights = false;
};

struct Attention {
  at::Tensor out;                     // [batch, queries, heads, dim of value], contiguous
  std::optional<at::Tensor> weights;  // [batch, heads, queries, keys] where asked for and known
};

/// `query` [batch, heads, queries, dim], `key` and `value` [batch, kv heads, keys, dim] of one
/// floating dtype; the kv heads divide the heads. `mask` is bool (true where a key is seen) or a
/// floating addend to the logits. [batch, keys], or [batch, heads, 1, keys], hides keys from every
/// query, beside what causality and window hide; a row for each of several queries, [batch, heads,
/// queries, keys], says it all: is_causal and sliding_window are not looked at. Batch and heads may
/// be 1 in four dims. `module` is the one that attends, for what an implementation reads from it.
/// Any thread may call. Throws LayerError kInvalidArgument naming a tensor or field that does not
/// fit, or what the implementation lacks.
using AttentionFunction = std::function<Attention(
    const torch::nn::Module& module, const at::Tensor& query, const at::Tensor& key,
    const at::Tensor& value, const std::optional<at::Tensor>& mask,
    const AttentionArguments& arguments)>;

/// The function of a name; look it up once per model, not once per layer.
///   "eager"      the formula in single ops; softmax in fp32; returns weights
///   "sdpa"       torch's scaled_dot_product_attention
///   "flash_attention_2", "flash_attention_3", "flash_attention_4"
///                kernels-community/flash-attn2 version 4, kernels-community/vllm-flash-attn3
///                version 1, kernels-community/flash-attn4 version 0
///   "owner/repo[@revision][:op]"
///                a hub package whose op `op` (default "attention_forward", else "fwd") names its
///                arguments as flash-attn2's does; without a revision the version of the table
///                above, else version 1
///   names given to register_attention_function
/// A package is loaded here, with `options`; its kernel stays loaded while the function lives. Its
/// function needs 16 bits on CUDA (float32 is cast to the dtype of the module's weights, with a
/// warning), has no gradient unless the op has one, and takes a mask only where it hides the same
/// keys from all heads and queries; under a sliding window, keys without a gap. The result of a
/// query whose own key is hidden is 0 under causality or a window.
/// Throws LayerError kInvalidArgument listing the known names; every error of get_kernel;
/// kOpNotFound, kSchemaMismatch.
KERNELHUB_API AttentionFunction attention_function(std::string_view name,
                                                   const LoadOptions& options = {});

/// Adds a function or replaces the one of that name. Throws LayerError kInvalidArgument for an
/// empty function, an empty name, or one with '/', which names a hub package.
KERNELHUB_API void register_attention_function(std::string name, AttentionFunction function);

/// Names that attention_function knows beside hub packages, sorted.
KERNELHUB_API std::vector<std::string> attention_function_names();

}  // namespace kernelhub
