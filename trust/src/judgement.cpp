// SPDX-License-Identifier: Apache-2.0
#include "judgement.h"

#include "endpoint.h"

#include "kernelhub/core/error.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace kernelhub::trust {
namespace {

std::string names_of(const std::vector<Evidence>& used) {
  std::string names;
  for (const Evidence evidence : used) {
    if (!names.empty()) names += " and ";
    names += evidence_name(evidence);
  }
  return names;
}

}  // namespace

Decision TrustPolicy::decide_id(const RepoId& repo) const {
  Decision decision;
  const SourceRule* rule = deny_rule_for(repo);
  decision.allow = rule == nullptr;
  if (rule == nullptr) {
    decision.reason = fmt::format("no rule denies {}", repo.str());
    return decision;
  }
  decision.code = error_code_name(ErrorCode::kTrustDenied);
  decision.reason = fmt::format("{} denies '{}'", rule->origin, rule->match);
  decision.remedy = fmt::format("ask the owner of {} why it is denied", rule->origin);
  return decision;
}

Decision TrustPolicy::decide(const Candidate& candidate) const {
  return Judgement(*this, candidate).decide();
}

std::string Judgement::rule() const {
  return fmt::format("mode {} ({})", mode_name(policy_.mode()), policy_.mode_origin());
}

Decision Judgement::allow(std::vector<Evidence> used, const std::string& why) {
  Decision decision;
  decision.allow = true;
  decision.used = std::move(used);
  decision.reason = fmt::format("{}: {}", rule(), why);
  decision.warnings = std::move(warnings_);
  return decision;
}

Decision Judgement::refuse(std::string_view code, const std::string& why,
                           std::string remedy) const {
  Decision decision;
  decision.code = code;
  decision.reason = fmt::format("{}: {}", rule(), why);
  decision.remedy = std::move(remedy);
  return decision;
}

Decision Judgement::decide() {
  const std::string_view denied = error_code_name(ErrorCode::kTrustDenied);
  if (candidate_.repo) {
    Decision by_id = policy_.decide_id(*candidate_.repo);
    if (!by_id.allow) return by_id;
  }
  if (candidate_.dirty) {
    if (policy_.mode() == Mode::kStrict) {
      return refuse(denied, "the package was built from a dirty source tree",
                    "build it again from a clean commit");
    }
    warn("the package was built from a dirty source tree, so its source cannot be looked up");
  }
  const bool is_local = !candidate_.repo || candidate_.is_local_override;
  return is_local ? decide_local() : decide_hub();
}

Decision Judgement::decide_local() {
  const std::string directory = candidate_.local_path.string();
  if (!candidate_.is_local_override) {
    return allow({Evidence::kLocal}, fmt::format("{} was named by the caller", directory));
  }
  const std::string repo = candidate_.repo ? candidate_.repo->str() : "";
  const bool is_listed =
      candidate_.repo && policy_.lists_override(*candidate_.repo, candidate_.local_path);
  if (policy_.mode() == Mode::kStrict && !is_listed) {
    return refuse(
        error_code_name(ErrorCode::kTrustDenied),
        fmt::format("LOCAL_KERNELS replaces {} by {}, which no [[source]] lists", repo, directory),
        fmt::format("unset LOCAL_KERNELS, or add [[source]] match = \"{}\" with path = "
                    "\"{}\" to the policy",
                    repo, directory));
  }
  warn(fmt::format("LOCAL_KERNELS replaces {} by {}", repo, directory));
  return allow({Evidence::kLocal}, fmt::format("LOCAL_KERNELS names {}", directory));
}

std::vector<Evidence> Judgement::evidence() const {
  std::vector<Evidence> found;
  const bool is_strict = policy_.mode() == Mode::kStrict;
  if (candidate_.locked && (candidate_.lock_has_digest || !is_strict)) {
    found.push_back(Evidence::kLock);
  }
  if (candidate_.signature_valid) found.push_back(Evidence::kSignature);
  if (is_strict) return found;
  const bool counts = policy_.counts_publisher_of(candidate_.endpoint);
  if (!candidate_.offline && counts && candidate_.publisher == PublisherFlag::kTrusted) {
    found.push_back(Evidence::kPublisher);
  }
  if (candidate_.explicit_now || (candidate_.offline && candidate_.decision_recorded)) {
    found.push_back(Evidence::kExplicit);
  }
  return found;
}

Decision Judgement::decide_hub() {
  if (is_plain_remote(candidate_.endpoint) && !policy_.allow_http()) {
    return refuse(error_code_name(ErrorCode::kTrustDenied),
                  fmt::format("{} is plain http on another machine", candidate_.endpoint),
                  "use https, or set allow_http = true in the policy for a network you control");
  }
  std::vector<Evidence> found = evidence();
  const bool is_pinned = std::find(found.begin(), found.end(), Evidence::kLock) != found.end();
  if (is_pinned && !candidate_.lock_has_digest && policy_.mode() == Mode::kStandard) {
    warn("kernels.lock pins the commit only: kernelhub.lock has no digest of the files");
  }
  if (!found.empty()) return allow(found, fmt::format("evidence is {}", names_of(found)));
  if (candidate_.offline && policy_.mode() == Mode::kCompat) {
    warn("loaded from the cache without asking whether its publisher is trusted");
    return allow({}, "offline, no evidence asked");
  }
  return refuse_hub();
}

std::string Judgement::missing_evidence() const {
  const std::string ns(candidate_.repo->ns());
  if (policy_.mode() == Mode::kStrict) {
    return candidate_.locked ? "the lock has no digest of this variant"
                             : "only a locked digest or a signature counts, and there is none";
  }
  if (candidate_.offline) {
    return "offline, and no earlier decision about this commit is recorded";
  }
  if (!policy_.counts_publisher_of(candidate_.endpoint)) {
    return fmt::format(
        "'{}' is not from a trusted publisher: the flags of {} do not count, it is not in "
        "'endpoints'",
        candidate_.repo->str(), candidate_.endpoint);
  }
  switch (candidate_.publisher) {
    case PublisherFlag::kUntrusted:
      return fmt::format("'{}' is not from a trusted publisher: {} does not vouch for '{}'",
                         candidate_.repo->str(), candidate_.endpoint, ns);
    case PublisherFlag::kUnverifiable:
      return fmt::format("could not verify publisher trust of '{}' at {}: {}", ns,
                         candidate_.endpoint, candidate_.publisher_error);
    default:
      return "there is no lock, no trusted publisher and no explicit permission";
  }
}

Decision Judgement::refuse_hub() const {
  const std::string repo = candidate_.repo->str();
  const bool is_strict = policy_.mode() == Mode::kStrict;
  const bool counts = policy_.counts_publisher_of(candidate_.endpoint);
  const bool unverifiable = !is_strict && !candidate_.offline && counts &&
                            candidate_.publisher == PublisherFlag::kUnverifiable;
  std::string remedy =
      is_strict ? fmt::format("lock {} with its digest in kernelhub.lock", repo)
                : fmt::format("read the code, then pass trust_remote_code=[\"{}\"]", repo);
  if (unverifiable) remedy = "try again when the hub answers, or " + remedy;
  if (!is_strict && candidate_.offline) remedy = "load it once online, or " + remedy;
  if (!is_strict && !candidate_.offline && !counts) {
    remedy += fmt::format(", or trust that hub's publishers: endpoints = [\"{}\"] in the policy",
                          candidate_.endpoint);
  }
  return refuse(
      error_code_name(unverifiable ? ErrorCode::kPublisherUnverifiable : ErrorCode::kTrustDenied),
      missing_evidence(), std::move(remedy));
}

}  // namespace kernelhub::trust
