// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "bert_config.h"

#include "kernelhub/layers/replaceable.h"

#include <ATen/core/Tensor.h>
#include <torch/nn/cloneable.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

/// The encoder of BERT on LibTorch; class and member names are those of Hugging Face transformers,
/// so the names in a checkpoint are the paths of the parameters here.
namespace bert {

class Linear : public torch::nn::Cloneable<Linear> {
 public:
  Linear(std::int64_t in_features, std::int64_t out_features);
  void reset() override;
  /// x [.., in] -> [.., out]
  at::Tensor forward(const at::Tensor& x);

 private:
  std::int64_t in_features_;
  std::int64_t out_features_;
  at::Tensor weight_;  // [out, in]
  at::Tensor bias_;    // [out]
};

class Embedding : public torch::nn::Cloneable<Embedding> {
 public:
  Embedding(std::int64_t count, std::int64_t size);
  void reset() override;
  /// ids int64 [..] -> [.., size]
  at::Tensor forward(const at::Tensor& ids);

 private:
  std::int64_t count_;
  std::int64_t size_;
  at::Tensor weight_;  // [count, size]
};

/// Kernelizable under the name "LayerNorm"; a kernel reads `weight`, `bias` and `eps`.
class LayerNorm : public torch::nn::Cloneable<LayerNorm>,
                  public kernelhub::Replaceable<LayerNorm, at::Tensor(const at::Tensor&)> {
 public:
  KERNELHUB_KERNEL_LAYER("LayerNorm")
  LayerNorm(std::int64_t size, double eps);
  void reset() override;
  at::Tensor reference_forward(const at::Tensor& x);

 private:
  std::int64_t size_;
  double eps_;
  at::Tensor weight_;  // [size]
  at::Tensor bias_;    // [size]
};

/// x/2 * (1 + erf(x / sqrt 2)), kernelizable under the name "GeLU".
class GELUActivation
    : public torch::nn::Cloneable<GELUActivation>,
      public kernelhub::Replaceable<GELUActivation, at::Tensor(const at::Tensor&)> {
 public:
  KERNELHUB_KERNEL_LAYER("GeLU")
  void reset() override {}
  at::Tensor reference_forward(const at::Tensor& x);
};

class BertEmbeddings : public torch::nn::Cloneable<BertEmbeddings> {
 public:
  explicit BertEmbeddings(const BertConfig& config);
  void reset() override;
  /// ids int64 [batch, tokens] -> [batch, tokens, hidden]
  at::Tensor forward(const at::Tensor& ids);

 private:
  BertConfig config_;
  std::shared_ptr<Embedding> word_embeddings_, position_embeddings_, token_type_embeddings_;
  std::shared_ptr<LayerNorm> layer_norm_;
};

class BertSelfAttention : public torch::nn::Cloneable<BertSelfAttention> {
 public:
  explicit BertSelfAttention(const BertConfig& config);
  void reset() override;
  /// x [batch, tokens, hidden]; mask bool [batch, 1, tokens, tokens], true = attend, or undefined
  at::Tensor forward(const at::Tensor& x, const at::Tensor& mask);

 private:
  at::Tensor split_heads(const at::Tensor& x) const;
  BertConfig config_;
  std::shared_ptr<Linear> query_, key_, value_;
};

/// dense, then LayerNorm over the sum with the residual: BertSelfOutput and BertOutput.
class BertOutput : public torch::nn::Cloneable<BertOutput> {
 public:
  BertOutput(const BertConfig& config, std::int64_t in_features);
  void reset() override;
  at::Tensor forward(const at::Tensor& x, const at::Tensor& residual);

 private:
  BertConfig config_;
  std::int64_t in_features_;
  std::shared_ptr<Linear> dense_;
  std::shared_ptr<LayerNorm> layer_norm_;
};

class BertAttention : public torch::nn::Cloneable<BertAttention> {
 public:
  explicit BertAttention(const BertConfig& config);
  void reset() override;
  at::Tensor forward(const at::Tensor& x, const at::Tensor& mask);

 private:
  BertConfig config_;
  std::shared_ptr<BertSelfAttention> self_;
  std::shared_ptr<BertOutput> output_;
};

class BertIntermediate : public torch::nn::Cloneable<BertIntermediate> {
 public:
  explicit BertIntermediate(const BertConfig& config);
  void reset() override;
  at::Tensor forward(const at::Tensor& x);

 private:
  BertConfig config_;
  std::shared_ptr<Linear> dense_;
  std::shared_ptr<GELUActivation> intermediate_act_fn_;
};

class BertLayer : public torch::nn::Cloneable<BertLayer> {
 public:
  explicit BertLayer(const BertConfig& config);
  void reset() override;
  at::Tensor forward(const at::Tensor& x, const at::Tensor& mask);

 private:
  BertConfig config_;
  std::shared_ptr<BertAttention> attention_;
  std::shared_ptr<BertIntermediate> intermediate_;
  std::shared_ptr<BertOutput> output_;
};

class BertEncoder : public torch::nn::Cloneable<BertEncoder> {
 public:
  explicit BertEncoder(const BertConfig& config);
  void reset() override;
  at::Tensor forward(at::Tensor x, const at::Tensor& mask);

 private:
  BertConfig config_;
  std::vector<std::shared_ptr<BertLayer>> layers_;
};

class BertModel : public torch::nn::Cloneable<BertModel> {
 public:
  explicit BertModel(const BertConfig& config);
  /// Config and weights of a folder in Hugging Face layout; the parameters are views of the mapped
  /// file. Throws kernelhub::Error naming missing tensors and mismatched shapes.
  static std::shared_ptr<BertModel> from_pretrained(const std::filesystem::path& folder);
  void reset() override;
  /// ids int64 [batch, tokens]; lengths int64 [batch], tokens of each row -> last hidden state
  /// [batch, tokens, hidden]
  at::Tensor forward(const at::Tensor& ids, const at::Tensor& lengths);

 private:
  BertConfig config_;
  std::shared_ptr<BertEmbeddings> embeddings_;
  std::shared_ptr<BertEncoder> encoder_;
};

}  // namespace bert
