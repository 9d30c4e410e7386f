// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/trust/policy.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::trust {

std::optional<Mode> parse_mode(std::string_view name);

/// What one policy file says (trust spec 2.4), checked; absent keys are unset.
struct PolicyFile {
  struct Source {
    std::string match;
    bool deny = false;
    std::filesystem::path path;
    std::uint32_t line = 0;
  };
  std::filesystem::path file;
  std::optional<Mode> mode;
  std::uint32_t mode_line = 0;
  std::vector<std::string> endpoints;  // normalised
  std::optional<bool> allow_http;
  std::optional<bool> require_sealed;
  std::optional<std::filesystem::path> audit;  // empty: off
  std::vector<Source> sources;
};

/// Nothing when there is no such file. Throws kPolicyInvalid, kIo.
std::optional<PolicyFile> read_policy_file(const std::filesystem::path& file);

/// Merges policy files and the mode variable into one policy.
class PolicyMerge {
 public:
  /// Later files add to earlier ones and override their flags; the strictest mode wins.
  void add(const PolicyFile& file);
  /// Mode named outside the files; must not be below theirs. Throws kPolicyInvalid.
  void set_mode_variable(const std::string& value);
  TrustPolicy take();

 private:
  TrustPolicy policy_;
  std::optional<Mode> floor_;
};

}  // namespace kernelhub::trust
