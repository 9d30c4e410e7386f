// SPDX-License-Identifier: Apache-2.0
#include "abi_policy.h"
#include "builder_errors.h"
#include "policy_data.h"

#include "kernelhub/core/json_access.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace kernelhub::builder {
namespace {

nlohmann::json parse_policy(std::string_view text) {
  return parse_untrusted_json(text, "policy data of the program", {.max_bytes = 4u << 20});
}

/// Parsed once; the texts are part of the program.
const nlohmann::json& manylinux() {
  static const nlohmann::json data = parse_policy(policy_data::kManylinux);
  return data.at("policies");
}
const nlohmann::json& python_abi() {
  static const nlohmann::json data = parse_policy(policy_data::kPythonAbi);
  return data.at("added");
}
const nlohmann::json& torch_shim() {
  static const nlohmann::json data = parse_policy(policy_data::kTorchShim);
  return data;
}

}  // namespace

VersionVerdict manylinux_verdict(std::string_view policy, std::string_view cpu,
                                 std::string_view needed) {
  const auto found = manylinux().find(policy);
  if (found == manylinux().end() || !found->contains(cpu)) {
    throw builder_errors::bad_option("--manylinux", policy,
                                     fmt::format("a policy for {}, like manylinux_2_28", cpu));
  }
  const std::size_t underscore = needed.find('_');
  const std::string name(needed.substr(0, underscore));
  const nlohmann::json& versions = found->at(std::string(cpu));
  const auto allowed = versions.find(name);
  if (underscore == std::string_view::npos || allowed == versions.end()) return {};
  const std::string version(needed.substr(underscore + 1));
  if (std::find(allowed->begin(), allowed->end(), version) != allowed->end()) return {};
  std::string newest;
  MajorMinor best{-1, 0};
  for (const nlohmann::json& entry : *allowed) {
    const auto& text = entry.get_ref<const std::string&>();
    const std::optional<MajorMinor> parsed = parse_major_minor(text);
    if (parsed && !(*parsed < best)) {
      best = *parsed;
      newest = text;
    }
  }
  return {false, name + "_" + newest};
}

std::optional<MajorMinor> python_abi_added(std::string_view symbol) {
  const auto found = python_abi().find(symbol);
  if (found == python_abi().end()) return std::nullopt;
  return parse_major_minor(found->get_ref<const std::string&>());
}

std::optional<MajorMinor> torch_shim_added(std::string_view function) {
  const nlohmann::json& added = torch_shim().at("added");
  const auto found = added.find(function);
  if (found == added.end()) return std::nullopt;
  return parse_major_minor(found->get_ref<const std::string&>()).value_or(MajorMinor{0, 0});
}

MajorMinor newest_shim_version() {
  return *parse_major_minor(torch_shim().at("newest").get_ref<const std::string&>());
}

}  // namespace kernelhub::builder
