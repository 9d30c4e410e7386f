// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace bert {

/// Fields of config.json that the encoder uses.
struct BertConfig {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t max_position_embeddings = 0;
  std::int64_t type_vocab_size = 0;
  double layer_norm_eps = 0;
  std::string hidden_act;

  /// Throws kernelhub::Error kInvalidConfig for a missing field or an architecture other than BERT
  /// with erf GELU and absolute positions.
  static BertConfig read(const std::filesystem::path& config_json);
};

}  // namespace bert
