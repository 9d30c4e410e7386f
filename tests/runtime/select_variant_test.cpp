// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/select_variant.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <random>

namespace kernelhub {
namespace {

nlohmann::json table() {
  std::ifstream file(KERNELHUB_SOURCE_DIR "/tests/runtime/select_variant_cases.json");
  return nlohmann::json::parse(file);
}

SystemInfo system_of(const nlohmann::json& environment) {
  SystemInfo system;
  system.cpu = environment.value("cpu", "x86_64");
  system.os = environment.value("os", "linux");
  if (environment.contains("torch")) {
    system.torch = parse_major_minor(environment["torch"].get<std::string>());
    if (environment.value("abi_known", true)) system.torch_cxx11_abi = true;
  }
  system.tvm_ffi = MajorMinor{0, 1};
  system.backend = *Backend::parse_compute_name(environment["backend"].get<std::string>());
  return system;
}

struct Row {
  std::string environment;
  SystemInfo system;
  std::vector<std::string> names;
  std::vector<std::string> accepted;
  std::map<std::string, std::string> rejected;
};

std::vector<Row> rows() {
  const nlohmann::json data = table();
  std::vector<Row> out;
  for (const auto& item : data["cases"]) {
    const std::string environment = item["environment"];
    out.push_back({environment, system_of(data["environments"][environment]), item["variants"],
                   item["accepted"], item["rejected"]});
  }
  return out;
}

std::vector<std::string> accepted_of(const VariantChoice& choice) {
  std::vector<std::string> names;
  for (const VariantDecision& decision : choice.decisions) {
    if (decision.accepted) names.push_back(decision.variant);
  }
  return names;
}

TEST(SelectVariant, OrdersAndRejectsAsTheTableSays) {
  for (const Row& row : rows()) {
    const VariantChoice choice =
        select_variant(row.names, row.system, row.system.backend, NoarchRule::kAccept);
    EXPECT_EQ(accepted_of(choice), row.accepted) << row.environment;
    for (const VariantDecision& decision : choice.decisions) {
      if (decision.accepted) continue;
      ASSERT_TRUE(row.rejected.count(decision.variant)) << row.environment << decision.variant;
      EXPECT_EQ(decision.reason, row.rejected.at(decision.variant)) << row.environment;
    }
    if (row.accepted.empty()) {
      EXPECT_FALSE(choice.chosen);
    } else {
      EXPECT_EQ(choice.chosen, row.accepted.front());
    }
  }
}

TEST(SelectVariant, DoesNotDependOnTheOrderOfTheListing) {
  std::mt19937 random(7);
  for (Row row : rows()) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      std::shuffle(row.names.begin(), row.names.end(), random);
      EXPECT_EQ(accepted_of(
                    select_variant(row.names, row.system, row.system.backend, NoarchRule::kAccept)),
                row.accepted);
    }
  }
}

TEST(SelectVariant, RejectsNoarchVariantsWithoutPython) {
  SystemInfo system;
  const VariantChoice choice =
      select_variant({"torch-cpu"}, system, Backend{}, NoarchRule::kRejectPythonOnly);
  EXPECT_FALSE(choice.chosen);
  EXPECT_EQ(choice.decisions.at(0).reason, "python-only: has no binary, load it from Python");
}

}  // namespace
}  // namespace kernelhub
