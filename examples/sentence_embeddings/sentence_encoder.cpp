// SPDX-License-Identifier: Apache-2.0
#include "sentence_encoder.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <vector>

namespace bert {
namespace {

/// hidden [batch, tokens, size], lengths [batch] -> [batch, size], rows of L2 norm 1.
at::Tensor pool(const at::Tensor& hidden, const at::Tensor& lengths) {
  const at::Tensor attended = at::arange(hidden.size(1), lengths.options()) < lengths.unsqueeze(1);
  const at::Tensor weights = attended.unsqueeze(2).to(hidden.scalar_type());
  const at::Tensor mean = (hidden * weights).sum(1) / weights.sum(1).clamp_min(1e-9);
  return mean / mean.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12);
}

}  // namespace

at::Tensor embed(BertModel& model, const TokenizedTexts& texts, std::int64_t batch_size,
                 const BatchCallback& on_batch) {
  const c10::InferenceMode inference;
  std::vector<at::Tensor> parts;
  for (std::int64_t begin = 0; begin < texts.ids.size(0); begin += batch_size) {
    const std::int64_t count = std::min(batch_size, texts.ids.size(0) - begin);
    const at::Tensor lengths = texts.lengths.narrow(0, begin, count);
    const at::Tensor ids =
        texts.ids.narrow(0, begin, count).narrow(1, 0, lengths.max().item<std::int64_t>());
    parts.push_back(pool(model.forward(ids, lengths), lengths));
    if (on_batch) on_batch(begin + count);
  }
  return at::cat(parts);
}

}  // namespace bert
