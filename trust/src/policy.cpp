// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/trust/policy.h"

#include "endpoint.h"

#include "kernelhub/core/digest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <strings.h>
#include <utility>

namespace kernelhub::trust {
namespace {

bool is_same_id(std::string_view a, std::string_view b) {
  // The Hub finds a repository under any letter case, so a denial must too.
  return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

bool matches(std::string_view rule, const RepoId& repo) {
  if (rule.size() > 2 && rule.substr(rule.size() - 2) == "/*") {
    return is_same_id(rule.substr(0, rule.size() - 2), repo.ns());
  }
  return is_same_id(rule, repo.str());
}

bool is_beneath(const std::filesystem::path& path, const std::filesystem::path& root) {
  const auto [root_end, rest] = std::mismatch(root.begin(), root.end(), path.begin(), path.end());
  return root_end == root.end() || (root_end->empty() && std::next(root_end) == root.end());
}

}  // namespace

std::string_view mode_name(Mode mode) noexcept {
  constexpr std::array<std::string_view, 3> kNames = {"compat", "standard", "strict"};
  return kNames[static_cast<std::size_t>(mode)];
}

std::string_view evidence_name(Evidence evidence) noexcept {
  constexpr std::array<std::string_view, 5> kNames = {"lock", "signature", "publisher", "local",
                                                      "explicit"};
  return kNames[static_cast<std::size_t>(evidence)];
}

bool TrustRemoteCode::allows(const RepoId& repo) const noexcept {
  return all || std::find(repos.begin(), repos.end(), repo.str()) != repos.end();
}

void TrustPolicy::seal() {
  std::sort(endpoints_.begin(), endpoints_.end());
  endpoints_.erase(std::unique(endpoints_.begin(), endpoints_.end()), endpoints_.end());
  std::string text = fmt::format("mode={}\nallow_http={}\nrequire_sealed={}\naudit={}\n",
                                 mode_name(mode_), allow_http_, require_sealed_,
                                 !audit_path_           ? "default"
                                 : audit_path_->empty() ? "off"
                                                        : audit_path_->string());
  for (const std::string& url : endpoints_) text += fmt::format("endpoint={}\n", url);
  std::vector<std::string> rules;
  for (const SourceRule& rule : sources_) {
    rules.push_back(
        fmt::format("source={} deny={} path={}\n", rule.match, rule.deny, rule.path.string()));
  }
  std::sort(rules.begin(), rules.end());
  for (const std::string& rule : rules) text += rule;
  fingerprint_ = "sha256:" + digest_of(DigestAlgorithm::kSha256, text).hex();
}

bool TrustPolicy::counts_publisher_of(std::string_view endpoint) const {
  const std::string url = normalised_endpoint(endpoint);
  if (url.empty()) return false;
  return mode_ == Mode::kCompat || url == kBuiltInEndpoint ||
         std::binary_search(endpoints_.begin(), endpoints_.end(), url);
}

const TrustPolicy::SourceRule* TrustPolicy::deny_rule_for(const RepoId& repo) const {
  for (const SourceRule& rule : sources_) {
    if (rule.deny && matches(rule.match, repo)) return &rule;
  }
  return nullptr;
}

bool TrustPolicy::lists_override(const RepoId& repo, const std::filesystem::path& directory) const {
  return std::any_of(sources_.begin(), sources_.end(), [&](const SourceRule& rule) {
    return !rule.path.empty() && matches(rule.match, repo) &&
           is_beneath(directory.lexically_normal(), rule.path);
  });
}

TrustPolicy TrustPolicy::restricted_by(const TrustPolicy& other) const {
  TrustPolicy both = *this;
  if (other.mode_ > mode_) {
    both.mode_ = other.mode_;
    both.mode_origin_ = other.mode_origin_;
  }
  both.endpoints_.clear();
  // A compat policy counts every endpoint, listed or not.
  for (const std::string& url : endpoints_) {
    if (other.counts_publisher_of(url)) both.endpoints_.push_back(url);
  }
  for (const std::string& url : other.endpoints_) {
    if (counts_publisher_of(url)) both.endpoints_.push_back(url);
  }
  both.allow_http_ = allow_http_ && other.allow_http_;
  both.require_sealed_ = require_sealed_ || other.require_sealed_;
  const bool is_off = audit_path_ && audit_path_->empty();
  if (is_off || !audit_path_) both.audit_path_ = is_off ? other.audit_path_ : audit_path_;
  both.sources_.clear();
  for (const auto* policy : {this, &other}) {
    const TrustPolicy& peer = policy == this ? other : *this;
    for (const SourceRule& rule : policy->sources_) {
      const auto same = [&](const SourceRule& candidate) {
        return candidate.match == rule.match && candidate.path == rule.path;
      };
      SourceRule kept = rule;
      // A place for overrides counts only when both list it; below strict mode none is needed.
      const bool is_free = peer.mode_ != Mode::kStrict;
      const bool is_shared = std::any_of(peer.sources_.begin(), peer.sources_.end(), same);
      if (!is_free && !is_shared) kept.path.clear();
      if (kept.deny || !kept.path.empty()) both.sources_.push_back(std::move(kept));
    }
  }
  both.seal();
  return both;
}

}  // namespace kernelhub::trust
