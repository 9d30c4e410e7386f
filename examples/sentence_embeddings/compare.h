// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "results.h"
#include "sentence_encoder.h"

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace demo {

/// Times of one step (a batch) of `plain` and `kernelized` over all texts, and of one call of their
/// GELU and LayerNorm on a batch's shape; the two take turns in each of `rounds` rounds.
std::vector<Timing> time_models(bert::BertModel& plain, bert::BertModel& kernelized,
                                const bert::TokenizedTexts& texts, std::int64_t batch_size,
                                int rounds);

/// The `count` sentences closest to each query; rows of the embeddings have norm 1.
std::vector<Neighbour> nearest(const at::Tensor& query_embeddings,
                               const at::Tensor& sentence_embeddings,
                               const std::vector<std::string>& queries,
                               const std::vector<std::string>& sentences, std::int64_t count);

}  // namespace demo
