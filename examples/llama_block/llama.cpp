// SPDX-License-Identifier: Apache-2.0
#include "llama.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>

#include <cmath>
#include <limits>
#include <string>

namespace llama {
namespace {

at::Tensor rotate_half(const at::Tensor& x) {
  const auto halves = x.chunk(2, -1);
  return at::cat({-halves[1], halves[0]}, -1);
}

/// [batch, heads, tokens, d] -> [batch, heads * times, tokens, d], each head `times` times.
at::Tensor repeat_heads(const at::Tensor& x, std::int64_t times) {
  return x.unsqueeze(2)
      .expand({x.size(0), x.size(1), times, x.size(2), x.size(3)})
      .reshape({x.size(0), x.size(1) * times, x.size(2), x.size(3)});
}

}  // namespace

Config Config::of(const std::map<std::string, std::string>& metadata) {
  const auto integer = [&](const char* key) { return std::stoll(metadata.at(key)); };
  const auto number = [&](const char* key) { return std::stod(metadata.at(key)); };
  return {integer("vocab_size"),          integer("hidden_size"),
          integer("intermediate_size"),   integer("num_hidden_layers"),
          integer("num_attention_heads"), integer("num_key_value_heads"),
          number("rms_norm_eps"),         number("rope_theta")};
}

Linear::Linear(std::int64_t in_features, std::int64_t out_features)
    : weight_(register_parameter("weight", at::empty({out_features, in_features}))) {}
at::Tensor Linear::forward(const at::Tensor& x) const { return at::linear(x, weight_); }

LlamaRMSNorm::LlamaRMSNorm(std::int64_t size, double eps)
    : weight_(register_parameter("weight", at::empty({size}))), variance_epsilon_(eps) {
  KERNELHUB_ATTR("variance_epsilon", variance_epsilon_);
}
at::Tensor LlamaRMSNorm::reference_forward(const at::Tensor& x) const {
  const at::Tensor wide = x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
  const at::Tensor variance = wide.pow(2).mean(-1, /*keepdim=*/true);
  return weight_ * (wide * at::rsqrt(variance + variance_epsilon_)).to(x.scalar_type());
}

at::Tensor SiLUActivation::reference_forward(const at::Tensor& x) const { return at::silu(x); }

LlamaMLP::LlamaMLP(const Config& config) {
  const auto linear = [&](const char* name, std::int64_t in, std::int64_t out) {
    return register_module(name, std::make_shared<Linear>(in, out));
  };
  gate_proj_ = linear("gate_proj", config.hidden_size, config.intermediate_size);
  up_proj_ = linear("up_proj", config.hidden_size, config.intermediate_size);
  down_proj_ = linear("down_proj", config.intermediate_size, config.hidden_size);
  act_fn_ = register_module("act_fn", std::make_shared<SiLUActivation>());
}
at::Tensor LlamaMLP::forward(const at::Tensor& x) {
  return down_proj_->forward(act_fn_->forward(gate_proj_->forward(x)) * up_proj_->forward(x));
}

Rotated apply_rotary_pos_emb(const at::Tensor& q, const at::Tensor& k, const at::Tensor& cos,
                             const at::Tensor& sin, std::int64_t unsqueeze_dim) {
  const at::Tensor c = cos.unsqueeze(unsqueeze_dim), s = sin.unsqueeze(unsqueeze_dim);
  return {q * c + rotate_half(q) * s, k * c + rotate_half(k) * s};
}

LlamaAttention::LlamaAttention(const Config& config) : config_(config) {
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t kv = config.num_key_value_heads * config.head_dim();
  const auto linear = [&](const char* name, std::int64_t in, std::int64_t out) {
    return register_module(name, std::make_shared<Linear>(in, out));
  };
  q_proj_ = linear("q_proj", hidden, hidden);
  k_proj_ = linear("k_proj", hidden, kv);
  v_proj_ = linear("v_proj", hidden, kv);
  o_proj_ = linear("o_proj", hidden, hidden);
}
at::Tensor LlamaAttention::split_heads(const at::Tensor& x) const {
  return x.view({x.size(0), x.size(1), -1, config_.head_dim()}).transpose(1, 2);
}
at::Tensor LlamaAttention::forward(const at::Tensor& x, const at::Tensor& cos,
                                   const at::Tensor& sin) {
  const std::int64_t groups = config_.num_attention_heads / config_.num_key_value_heads;
  const auto [q, k] = rotary_(split_heads(q_proj_->forward(x)), split_heads(k_proj_->forward(x)),
                              cos, sin, /*unsqueeze_dim=*/1);
  const at::Tensor keys = repeat_heads(k, groups);
  const at::Tensor values = repeat_heads(split_heads(v_proj_->forward(x)), groups);
  const double scale = 1.0 / std::sqrt(static_cast<double>(config_.head_dim()));
  const std::int64_t tokens = x.size(1);
  const at::Tensor mask =
      at::full({tokens, tokens}, -std::numeric_limits<double>::infinity(), x.options()).triu(1);
  const at::Tensor scores = at::matmul(q, keys.transpose(2, 3)) * scale + mask;
  const auto wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor weights = at::softmax(scores, -1, wide).to(x.scalar_type());
  return o_proj_->forward(at::matmul(weights, values).transpose(1, 2).reshape(x.sizes()));
}

LlamaDecoderLayer::LlamaDecoderLayer(const Config& config) {
  const auto norm = [&](const char* name) {
    return register_module(name,
                           std::make_shared<LlamaRMSNorm>(config.hidden_size, config.rms_norm_eps));
  };
  self_attn_ = register_module("self_attn", std::make_shared<LlamaAttention>(config));
  mlp_ = register_module("mlp", std::make_shared<LlamaMLP>(config));
  input_layernorm_ = norm("input_layernorm");
  post_attention_layernorm_ = norm("post_attention_layernorm");
}
at::Tensor LlamaDecoderLayer::forward(const at::Tensor& x, const at::Tensor& cos,
                                      const at::Tensor& sin) {
  const at::Tensor attended = x + self_attn_->forward(input_layernorm_->forward(x), cos, sin);
  return attended + mlp_->forward(post_attention_layernorm_->forward(attended));
}

LlamaModel::LlamaModel(const Config& config) : config_(config) {
  const auto embedding = register_module("embed_tokens", std::make_shared<torch::nn::Module>());
  embed_tokens_ =
      embedding->register_parameter("weight", at::empty({config.vocab_size, config.hidden_size}));
  const auto layers = register_module("layers", std::make_shared<torch::nn::Module>());
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    layers_.push_back(
        layers->register_module(std::to_string(i), std::make_shared<LlamaDecoderLayer>(config)));
  }
  norm_ = register_module("norm",
                          std::make_shared<LlamaRMSNorm>(config.hidden_size, config.rms_norm_eps));
}
at::Tensor LlamaModel::forward(const at::Tensor& ids) {
  at::Tensor x = at::embedding(embed_tokens_, ids);
  // Angles in fp32 whatever the model's dtype, as in transformers.
  const std::int64_t dim = config_.head_dim();
  const at::Tensor even = at::arange(0, dim, 2, at::kLong).to(at::kFloat);
  const at::Tensor inverse = 1.0 / at::pow(config_.rope_theta, even / static_cast<double>(dim));
  const at::Tensor angles = at::arange(ids.size(1), at::kFloat).unsqueeze(1) * inverse;
  const at::Tensor both = at::cat({angles, angles}, -1).unsqueeze(0);
  const at::Tensor cos = both.cos().to(x.scalar_type()), sin = both.sin().to(x.scalar_type());
  for (const auto& layer : layers_) x = layer->forward(x, cos, sin);
  return norm_->forward(x);
}

LlamaForCausalLM::LlamaForCausalLM(const Config& config)
    : model_(register_module("model", std::make_shared<LlamaModel>(config))),
      lm_head_(register_module("lm_head",
                               std::make_shared<Linear>(config.hidden_size, config.vocab_size))) {}
at::Tensor LlamaForCausalLM::forward(const at::Tensor& ids) {
  return lm_head_->forward(model_->forward(ids));
}
void LlamaForCausalLM::load(const std::map<std::string, at::Tensor>& weights) {
  const at::NoGradGuard no_grad;
  for (const auto& item : named_parameters()) item.value().copy_(weights.at(item.key()));
}

}  // namespace llama
