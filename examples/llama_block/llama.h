// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/layers/kernel_function.h"
#include "kernelhub/layers/replaceable.h"

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

/// A decoder of Llama's shape on LibTorch. Class, member and layer names are those of Hugging Face
/// transformers: a checkpoint's names are the paths of the parameters here, and the default kernel
/// mapping serves the marked layers. llama.py is the same model in Python.
namespace llama {

struct Config {
  std::int64_t vocab_size, hidden_size, intermediate_size, num_hidden_layers;
  std::int64_t num_attention_heads, num_key_value_heads;
  double rms_norm_eps, rope_theta;

  /// From the strings of a checkpoint's `__metadata__`. Throws std::out_of_range for a missing one.
  static Config of(const std::map<std::string, std::string>& metadata);
  std::int64_t head_dim() const { return hidden_size / num_attention_heads; }
};

/// Without bias.
class Linear : public torch::nn::Module {
 public:
  Linear(std::int64_t in_features, std::int64_t out_features);
  /// x [.., in] -> [.., out]
  at::Tensor forward(const at::Tensor& x) const;

 private:
  at::Tensor weight_;  // [out, in]
};

/// weight * (x / sqrt(mean(x^2) + eps)), the norm in fp32 (arXiv:1910.07467, eq. 4).
class LlamaRMSNorm : public torch::nn::Module,
                     public kernelhub::Replaceable<LlamaRMSNorm, at::Tensor(const at::Tensor&)> {
 public:
  KERNELHUB_KERNEL_LAYER("RMSNorm")
  LlamaRMSNorm(std::int64_t size, double eps);
  at::Tensor reference_forward(const at::Tensor& x) const;

 private:
  at::Tensor weight_;  // [size]
  double variance_epsilon_;
};

class SiLUActivation
    : public torch::nn::Module,
      public kernelhub::Replaceable<SiLUActivation, at::Tensor(const at::Tensor&)> {
 public:
  KERNELHUB_KERNEL_LAYER("SiLU")
  at::Tensor reference_forward(const at::Tensor& x) const;
};

/// down(silu(gate(x)) * up(x))
class LlamaMLP : public torch::nn::Module {
 public:
  explicit LlamaMLP(const Config& config);
  at::Tensor forward(const at::Tensor& x);

 private:
  std::shared_ptr<Linear> gate_proj_, up_proj_, down_proj_;
  std::shared_ptr<SiLUActivation> act_fn_;
};

using Rotated = std::tuple<at::Tensor, at::Tensor>;

/// Rotary positions over halves (arXiv:2104.09864): q, k [batch, heads, tokens, d], cos, sin
/// [batch, tokens, d], which get a dim at `unsqueeze_dim`.
Rotated apply_rotary_pos_emb(const at::Tensor& q, const at::Tensor& k, const at::Tensor& cos,
                             const at::Tensor& sin, std::int64_t unsqueeze_dim);

/// Causal, grouped-query, eager.
class LlamaAttention : public torch::nn::Module, public kernelhub::KernelFunctionOwner {
 public:
  explicit LlamaAttention(const Config& config);
  at::Tensor forward(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);
  std::vector<kernelhub::Swappable*> kernel_functions() override { return {&rotary_}; }

 private:
  at::Tensor split_heads(const at::Tensor& x) const;

  Config config_;
  std::shared_ptr<Linear> q_proj_, k_proj_, v_proj_, o_proj_;
  kernelhub::KernelFunction<Rotated(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                    const at::Tensor&, std::int64_t)>
      rotary_{"rotary_pos_emb", apply_rotary_pos_emb};
};

class LlamaDecoderLayer : public torch::nn::Module {
 public:
  explicit LlamaDecoderLayer(const Config& config);
  at::Tensor forward(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

 private:
  std::shared_ptr<LlamaAttention> self_attn_;
  std::shared_ptr<LlamaMLP> mlp_;
  std::shared_ptr<LlamaRMSNorm> input_layernorm_, post_attention_layernorm_;
};

class LlamaModel : public torch::nn::Module {
 public:
  explicit LlamaModel(const Config& config);
  at::Tensor forward(const at::Tensor& ids);

 private:
  Config config_;
  at::Tensor embed_tokens_;  // [vocab, hidden]
  std::vector<std::shared_ptr<LlamaDecoderLayer>> layers_;
  std::shared_ptr<LlamaRMSNorm> norm_;
};

class LlamaForCausalLM : public torch::nn::Module {
 public:
  explicit LlamaForCausalLM(const Config& config);
  /// ids int64 [batch, tokens] -> logits [batch, tokens, vocab]
  at::Tensor forward(const at::Tensor& ids);
  /// Copies every parameter from the tensor of its name.
  void load(const std::map<std::string, at::Tensor>& weights);

 private:
  std::shared_ptr<LlamaModel> model_;
  std::shared_ptr<Linear> lm_head_;
};

}  // namespace llama
