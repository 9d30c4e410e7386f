// SPDX-License-Identifier: Apache-2.0
#include "bert_config.h"

#include "kernelhub/core/error.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <fstream>

namespace bert {
namespace {

using kernelhub::Error;
using kernelhub::ErrorCode;

Error invalid(const std::filesystem::path& path, const std::string& reason) {
  return Error(ErrorCode::kInvalidConfig, fmt::format("config {}: {}", path.string(), reason));
}

nlohmann::json read_object(const std::filesystem::path& path) {
  std::ifstream stream(path);
  if (!stream) throw Error(ErrorCode::kIo, fmt::format("cannot open {}", path.string()));
  try {
    return nlohmann::json::parse(stream);
  } catch (const nlohmann::json::exception& error) {
    throw invalid(path, error.what());
  }
}

}  // namespace

BertConfig BertConfig::read(const std::filesystem::path& config_json) {
  const nlohmann::json json = read_object(config_json);
  BertConfig config;
  try {
    json.at("vocab_size").get_to(config.vocab_size);
    json.at("hidden_size").get_to(config.hidden_size);
    json.at("num_hidden_layers").get_to(config.num_hidden_layers);
    json.at("num_attention_heads").get_to(config.num_attention_heads);
    json.at("intermediate_size").get_to(config.intermediate_size);
    json.at("max_position_embeddings").get_to(config.max_position_embeddings);
    json.at("type_vocab_size").get_to(config.type_vocab_size);
    json.at("layer_norm_eps").get_to(config.layer_norm_eps);
    json.at("hidden_act").get_to(config.hidden_act);
    if (json.at("model_type") != "bert") {
      throw invalid(config_json, "model_type: expected bert, found " + json["model_type"].dump());
    }
    if (json.value("position_embedding_type", "absolute") != "absolute") {
      throw invalid(config_json, "position_embedding_type: only absolute positions are built here");
    }
  } catch (const nlohmann::json::exception& error) {
    throw invalid(config_json, error.what());
  }
  if (config.hidden_act != "gelu") {
    throw invalid(config_json, "hidden_act: expected gelu, found " + config.hidden_act);
  }
  return config;
}

}  // namespace bert
