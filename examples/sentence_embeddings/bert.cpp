// SPDX-License-Identifier: Apache-2.0
#include "bert.h"

#include "kernelhub/core/error.h"
#include "kernelhub/safetensors.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace bert {

Linear::Linear(std::int64_t in_features, std::int64_t out_features)
    : in_features_(in_features), out_features_(out_features) {
  reset();
}
void Linear::reset() {
  weight_ = register_parameter("weight", at::empty({out_features_, in_features_}));
  bias_ = register_parameter("bias", at::empty({out_features_}));
}
at::Tensor Linear::forward(const at::Tensor& x) { return at::linear(x, weight_, bias_); }

Embedding::Embedding(std::int64_t count, std::int64_t size) : count_(count), size_(size) {
  reset();
}
void Embedding::reset() { weight_ = register_parameter("weight", at::empty({count_, size_})); }
at::Tensor Embedding::forward(const at::Tensor& ids) { return at::embedding(weight_, ids); }

LayerNorm::LayerNorm(std::int64_t size, double eps) : size_(size), eps_(eps) { reset(); }
void LayerNorm::reset() {
  weight_ = register_parameter("weight", at::empty({size_}));
  bias_ = register_parameter("bias", at::empty({size_}));
  KERNELHUB_ATTR("eps", eps_);
}
at::Tensor LayerNorm::reference_forward(const at::Tensor& x) {
  return at::layer_norm(x, {size_}, weight_, bias_, eps_);
}

at::Tensor GELUActivation::reference_forward(const at::Tensor& x) { return at::gelu(x); }

BertEmbeddings::BertEmbeddings(const BertConfig& config) : config_(config) { reset(); }
void BertEmbeddings::reset() {
  const std::int64_t hidden = config_.hidden_size;
  word_embeddings_ =
      register_module("word_embeddings", std::make_shared<Embedding>(config_.vocab_size, hidden));
  position_embeddings_ = register_module(
      "position_embeddings", std::make_shared<Embedding>(config_.max_position_embeddings, hidden));
  token_type_embeddings_ = register_module(
      "token_type_embeddings", std::make_shared<Embedding>(config_.type_vocab_size, hidden));
  layer_norm_ =
      register_module("LayerNorm", std::make_shared<LayerNorm>(hidden, config_.layer_norm_eps));
}
at::Tensor BertEmbeddings::forward(const at::Tensor& ids) {
  // Same order of additions as transformers: words, token types, positions.
  at::Tensor x = word_embeddings_->forward(ids);
  x = x + token_type_embeddings_->forward(at::zeros_like(ids));
  x = x + position_embeddings_->forward(at::arange(ids.size(1), ids.options()));
  return layer_norm_->forward(x);
}

BertSelfAttention::BertSelfAttention(const BertConfig& config) : config_(config) { reset(); }
void BertSelfAttention::reset() {
  const std::int64_t hidden = config_.hidden_size;
  query_ = register_module("query", std::make_shared<Linear>(hidden, hidden));
  key_ = register_module("key", std::make_shared<Linear>(hidden, hidden));
  value_ = register_module("value", std::make_shared<Linear>(hidden, hidden));
}
at::Tensor BertSelfAttention::split_heads(const at::Tensor& x) const {
  const std::int64_t heads = config_.num_attention_heads;
  return x.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
}
at::Tensor BertSelfAttention::forward(const at::Tensor& x, const at::Tensor& mask) {
  const at::Tensor attended = at::scaled_dot_product_attention(
      split_heads(query_->forward(x)), split_heads(key_->forward(x)),
      split_heads(value_->forward(x)),
      mask.defined() ? std::optional<at::Tensor>(mask) : std::nullopt);
  return attended.transpose(1, 2).reshape(x.sizes());
}

BertOutput::BertOutput(const BertConfig& config, std::int64_t in_features)
    : config_(config), in_features_(in_features) {
  reset();
}
void BertOutput::reset() {
  const std::int64_t hidden = config_.hidden_size;
  dense_ = register_module("dense", std::make_shared<Linear>(in_features_, hidden));
  layer_norm_ =
      register_module("LayerNorm", std::make_shared<LayerNorm>(hidden, config_.layer_norm_eps));
}
at::Tensor BertOutput::forward(const at::Tensor& x, const at::Tensor& residual) {
  return layer_norm_->forward(dense_->forward(x) + residual);
}

BertAttention::BertAttention(const BertConfig& config) : config_(config) { reset(); }
void BertAttention::reset() {
  self_ = register_module("self", std::make_shared<BertSelfAttention>(config_));
  output_ = register_module("output", std::make_shared<BertOutput>(config_, config_.hidden_size));
}
at::Tensor BertAttention::forward(const at::Tensor& x, const at::Tensor& mask) {
  return output_->forward(self_->forward(x, mask), x);
}

BertIntermediate::BertIntermediate(const BertConfig& config) : config_(config) { reset(); }
void BertIntermediate::reset() {
  dense_ = register_module(
      "dense", std::make_shared<Linear>(config_.hidden_size, config_.intermediate_size));
  intermediate_act_fn_ = register_module("intermediate_act_fn", std::make_shared<GELUActivation>());
}
at::Tensor BertIntermediate::forward(const at::Tensor& x) {
  return intermediate_act_fn_->forward(dense_->forward(x));
}

BertLayer::BertLayer(const BertConfig& config) : config_(config) { reset(); }
void BertLayer::reset() {
  attention_ = register_module("attention", std::make_shared<BertAttention>(config_));
  intermediate_ = register_module("intermediate", std::make_shared<BertIntermediate>(config_));
  output_ =
      register_module("output", std::make_shared<BertOutput>(config_, config_.intermediate_size));
}
at::Tensor BertLayer::forward(const at::Tensor& x, const at::Tensor& mask) {
  const at::Tensor attended = attention_->forward(x, mask);
  return output_->forward(intermediate_->forward(attended), attended);
}

BertEncoder::BertEncoder(const BertConfig& config) : config_(config) { reset(); }
void BertEncoder::reset() {
  layers_.clear();
  const auto list = register_module("layer", std::make_shared<torch::nn::Module>());
  for (std::int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    layers_.push_back(
        list->register_module(std::to_string(i), std::make_shared<BertLayer>(config_)));
  }
}
at::Tensor BertEncoder::forward(at::Tensor x, const at::Tensor& mask) {
  for (const auto& layer : layers_) x = layer->forward(x, mask);
  return x;
}

BertModel::BertModel(const BertConfig& config) : config_(config) { reset(); }
void BertModel::reset() {
  embeddings_ = register_module("embeddings", std::make_shared<BertEmbeddings>(config_));
  encoder_ = register_module("encoder", std::make_shared<BertEncoder>(config_));
}
at::Tensor BertModel::forward(const at::Tensor& ids, const at::Tensor& lengths) {
  const std::int64_t tokens = ids.size(1);
  at::Tensor mask;
  if (lengths.min().item<std::int64_t>() < tokens) {
    const at::Tensor attended = at::arange(tokens, ids.options()) < lengths.unsqueeze(1);
    mask = attended.view({ids.size(0), 1, 1, tokens}).expand({ids.size(0), 1, tokens, tokens});
  }
  return encoder_->forward(embeddings_->forward(ids), mask);
}

std::shared_ptr<BertModel> BertModel::from_pretrained(const std::filesystem::path& folder) {
  const auto model = std::make_shared<BertModel>(BertConfig::read(folder / "config.json"));
  const auto file = kernelhub::SafetensorsFile::open(folder / "model.safetensors");
  std::vector<std::string> problems;
  for (auto& [name, parameter] : model->named_parameters().pairs()) {
    if (!file.has(name)) {
      problems.push_back(name + " is missing");
      continue;
    }
    const at::Tensor weights = file.tensor(name);
    if (weights.sizes() != parameter.sizes() || weights.dtype() != parameter.dtype()) {
      problems.push_back(fmt::format("{} is {}, the config asks for {}", name, weights.sizes(),
                                     parameter.sizes()));
      continue;
    }
    parameter.set_data(weights);
    parameter.set_requires_grad(false);
  }
  if (!problems.empty()) {
    throw kernelhub::Error(kernelhub::ErrorCode::kInvalidArgument,
                           fmt::format("checkpoint {} does not fit its config: {}",
                                       file.path().string(), fmt::join(problems, "; ")));
  }
  model->eval();
  return model;
}

}  // namespace bert
