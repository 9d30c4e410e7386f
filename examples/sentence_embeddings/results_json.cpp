// SPDX-License-Identifier: Apache-2.0
#include "results.h"

#include "kernelhub/core/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>

namespace kernelhub {

static void to_json(nlohmann::json& json, const VariantDecision& decision) {
  json = {
      {"variant", decision.variant}, {"accepted", decision.accepted}, {"reason", decision.reason}};
}

static void to_json(nlohmann::json& json, const LayerOutcome& layer) {
  json = {{"path", layer.path},     {"layer_name", layer.layer_name}, {"source", layer.source},
          {"commit", layer.commit}, {"reason", layer.reason},         {"swapped", layer.swapped}};
}

}  // namespace kernelhub

namespace demo {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Agreement, plain_to_reference, kernelized_to_reference,
                                   kernelized_to_plain, restored_bit_equal)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Timing, what, unit, plain_ms, kernelized_ms)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Neighbour, query, sentences, cosines)

static void to_json(nlohmann::json& json, const LoadedPackage& package) {
  json = {{"repo", package.repo},
          {"version", package.version},
          {"commit", package.commit},
          {"variant", package.variant},
          {"op_namespace", package.op_namespace},
          {"ops", package.ops},
          {"trace", package.trace}};
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values.at(half) : (values.at(half - 1) + values.at(half)) / 2;
}

double spread(const std::vector<double>& values) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return (*high - *low) / median(values);
}

void write_results(const Results& results, const std::filesystem::path& path) {
  const nlohmann::json json = {
      {"sentences", results.sentences},   {"batch_size", results.batch_size},
      {"threads", results.threads},       {"torch_version", results.torch_version},
      {"packages", results.packages},     {"layers", results.layers},
      {"agreement", results.agreement},   {"timings", results.timings},
      {"neighbours", results.neighbours},
  };
  std::ofstream stream(path);
  stream << json.dump(1) << '\n';
  if (!stream.flush()) {
    throw kernelhub::Error(kernelhub::ErrorCode::kIo, "cannot write " + path.string());
  }
}

}  // namespace demo
