// SPDX-License-Identifier: Apache-2.0
#include "compare.h"

#include "terminal.h"

#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/topk.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <chrono>
#include <functional>

namespace demo {
namespace {

double milliseconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double, std::milli> elapsed =
      std::chrono::steady_clock::now() - begin;
  return elapsed.count();
}

/// Both sides by turns, the first one alternating, after one round that is thrown away. A value is
/// the mean over the `steps` that one piece of work does.
Timing interleave(std::string what, std::string unit, int rounds, double steps,
                  const std::function<void()>& plain, const std::function<void()>& kernelized) {
  Timing timing{std::move(what), std::move(unit), {}, {}};
  ProgressLine line;
  for (int round = -1; round < rounds; ++round) {
    line.show(fmt::format("timing {}: round {} of {}", timing.what, round + 1, rounds));
    const bool plain_first = round % 2 == 0;
    double plain_ms = plain_first ? milliseconds_of(plain) : 0;
    const double kernelized_ms = milliseconds_of(kernelized);
    if (!plain_first) plain_ms = milliseconds_of(plain);
    if (round < 0) continue;
    timing.plain_ms.push_back(plain_ms / steps);
    timing.kernelized_ms.push_back(kernelized_ms / steps);
  }
  line.clear();
  return timing;
}

/// First layer of the model that is marked with this name.
template <class Layer>
Layer& find_layer(bert::BertModel& model) {
  for (const auto& module : model.modules(/*include_self=*/false)) {
    if (auto* layer = dynamic_cast<Layer*>(module.get())) return *layer;
  }
  throw std::logic_error("the model has no such layer");
}

template <class Layer>
Timing time_layer(const char* name, bert::BertModel& plain, bert::BertModel& kernelized,
                  at::IntArrayRef sizes, int rounds) {
  constexpr int kCalls = 50;
  const at::Tensor x = at::randn(sizes);
  const auto repeat = [&](Layer& layer) {
    return [&layer, &x] {
      const c10::InferenceMode inference;
      for (int call = 0; call < kCalls; ++call) layer.forward(x);
    };
  };
  return interleave(fmt::format("{} on {}x{}x{}", name, sizes[0], sizes[1], sizes[2]), "call",
                    rounds, kCalls, repeat(find_layer<Layer>(plain)),
                    repeat(find_layer<Layer>(kernelized)));
}

}  // namespace

std::vector<Timing> time_models(bert::BertModel& plain, bert::BertModel& kernelized,
                                const bert::TokenizedTexts& texts, std::int64_t batch_size,
                                int rounds) {
  const double steps = static_cast<double>((texts.ids.size(0) + batch_size - 1) / batch_size);
  const auto run = [&](bert::BertModel& model) {
    return [&] { bert::embed(model, texts, batch_size); };
  };
  const std::int64_t tokens = texts.lengths.median().item<std::int64_t>();
  std::vector<Timing> timings;
  timings.push_back(interleave(fmt::format("encoder, batches of {}", batch_size), "step", rounds,
                               steps, run(plain), run(kernelized)));
  timings.push_back(time_layer<bert::GELUActivation>("GELU", plain, kernelized,
                                                     {batch_size, tokens, 1536}, rounds));
  timings.push_back(time_layer<bert::LayerNorm>("LayerNorm", plain, kernelized,
                                                {batch_size, tokens, 384}, rounds));
  return timings;
}

std::vector<Neighbour> nearest(const at::Tensor& query_embeddings,
                               const at::Tensor& sentence_embeddings,
                               const std::vector<std::string>& queries,
                               const std::vector<std::string>& sentences, std::int64_t count) {
  const auto [cosines, indices] =
      at::topk(at::matmul(query_embeddings, sentence_embeddings.t()), count, 1);
  std::vector<Neighbour> neighbours;
  for (std::size_t query = 0; query < queries.size(); ++query) {
    Neighbour neighbour{queries[query], {}, {}};
    const auto row = static_cast<std::int64_t>(query);
    for (std::int64_t rank = 0; rank < count; ++rank) {
      const auto index = static_cast<std::size_t>(indices[row][rank].item<std::int64_t>());
      neighbour.sentences.push_back(sentences.at(index));
      neighbour.cosines.push_back(cosines[row][rank].item<double>());
    }
    neighbours.push_back(std::move(neighbour));
  }
  return neighbours;
}

}  // namespace demo
