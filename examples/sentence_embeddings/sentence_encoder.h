// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "bert.h"

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

namespace bert {

/// Token rows of texts, as prepare.py writes them.
struct TokenizedTexts {
  at::Tensor ids;      // int64 [texts, longest], zero padded
  at::Tensor lengths;  // int64 [texts]
};

/// Called after each batch with the number of texts embedded so far.
using BatchCallback = std::function<void(std::int64_t done)>;

/// Mean over the tokens of each text, divided by its L2 norm: float32 [texts, hidden]. Texts are
/// embedded in the given order, `batch_size` at a time, each batch cut to its longest text.
at::Tensor embed(BertModel& model, const TokenizedTexts& texts, std::int64_t batch_size,
                 const BatchCallback& on_batch = {});

}  // namespace bert
