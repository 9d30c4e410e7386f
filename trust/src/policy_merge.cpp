// SPDX-License-Identifier: Apache-2.0
#include "policy_file.h"
#include "trust_errors.h"

#include <fmt/format.h>

#include <utility>

namespace kernelhub::trust {

std::optional<Mode> parse_mode(std::string_view name) {
  for (const Mode mode : {Mode::kCompat, Mode::kStandard, Mode::kStrict}) {
    if (mode_name(mode) == name) return mode;
  }
  return std::nullopt;
}

void PolicyMerge::add(const PolicyFile& file) {
  const std::string name = file.file.string();
  if (file.mode && (!floor_ || *file.mode > *floor_)) {
    floor_ = policy_.mode_ = *file.mode;
    policy_.mode_origin_ = fmt::format("{}:{}", name, file.mode_line);
  }
  policy_.endpoints_.insert(policy_.endpoints_.end(), file.endpoints.begin(), file.endpoints.end());
  policy_.allow_http_ = file.allow_http.value_or(policy_.allow_http_);
  policy_.require_sealed_ = policy_.require_sealed_ || file.require_sealed.value_or(false);
  if (file.audit) policy_.audit_path_ = file.audit;
  for (const PolicyFile::Source& source : file.sources) {
    policy_.sources_.push_back(
        {source.match, fmt::format("{}:{}", name, source.line), source.deny, source.path});
  }
}

void PolicyMerge::set_mode_variable(const std::string& value) {
  if (value.empty()) return;
  const auto mode = parse_mode(value);
  if (!mode) {
    throw trust_errors::policy_variable("KERNELHUB_TRUST", value, "compat, standard or strict");
  }
  if (floor_ && *mode < *floor_) {
    throw trust_errors::policy_variable(
        "KERNELHUB_TRUST", value,
        fmt::format("{} or stricter, as {} says", mode_name(*floor_), policy_.mode_origin_));
  }
  policy_.mode_ = *mode;
  policy_.mode_origin_ = "KERNELHUB_TRUST";
}

TrustPolicy PolicyMerge::take() {
  policy_.seal();
  return std::move(policy_);
}

TrustPolicy TrustPolicy::load(const Config& config) {
  PolicyMerge merge;
  for (const std::filesystem::path& file : {config.system_trust_file, config.trust_file}) {
    if (file.empty()) continue;
    if (const auto policy = read_policy_file(file)) merge.add(*policy);
  }
  merge.set_mode_variable(config.trust_mode);
  return merge.take();
}

TrustPolicy TrustPolicy::defaults() { return PolicyMerge().take(); }

}  // namespace kernelhub::trust
