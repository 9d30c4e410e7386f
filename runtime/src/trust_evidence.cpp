// SPDX-License-Identifier: Apache-2.0
#include "trust_evidence.h"

#include "runtime_errors.h"

#include "kernelhub/core/log.h"

#include <chrono>

namespace kernelhub {
namespace {

// Trust spec 2.1: a publisher answer is evidence for 24 hours.
constexpr std::chrono::hours kPublisherAnswerAge{24};

trust::PublisherFlag ask_publisher(const Request& request, TrustContext& context,
                                   hub::Client& client, trust::Candidate& candidate) {
  const std::string ns(request.repo.ns());
  const auto known = context.state.publisher(candidate.endpoint, ns);
  if (known && known->trusted &&
      std::chrono::system_clock::now() - known->asked < kPublisherAnswerAge) {
    return trust::PublisherFlag::kTrusted;
  }
  // A silent hub is as good as none, and offline a recorded decision counts; but the last answer
  // of the hub must not have been a no.
  const bool can_do_without = candidate.decision_recorded && !(known && !known->trusted);
  const hub::Publisher answer = client.publisher(ns, can_do_without);
  candidate.offline = can_do_without && answer.is_silent;
  if (candidate.offline) {
    log(LogLevel::kWarning, request.repo.str() +
                                ": an earlier decision about this commit counts, " + "because " +
                                answer.error);
  }
  if (!answer.error.empty()) {
    candidate.publisher_error = answer.error;
    return trust::PublisherFlag::kUnverifiable;
  }
  context.state.record_publisher(candidate.endpoint, ns, answer.trusted);
  return answer.trusted ? trust::PublisherFlag::kTrusted : trust::PublisherFlag::kUntrusted;
}

}  // namespace

TrustContext::TrustContext(const Config& config)
    : policy(trust::TrustPolicy::load(config)), state(config.state_dir), audit(policy, config) {}

trust::Decision require_allowed(const TrustContext& context, const trust::Candidate& candidate,
                                trust::Decision decision, std::string_view requested) {
  if (!decision.allow) {
    context.audit.refused(candidate, decision.code, requested);
    throw runtime_errors::denied(candidate, decision);
  }
  for (const std::string& warning : decision.warnings) {
    warn_once((candidate.repo ? candidate.repo->str() : candidate.local_path.string()) + warning,
              warning);
  }
  return decision;
}

trust::Candidate gather_evidence(const Request& request, TrustContext& context, hub::Client& client,
                                 const hub::ResolvedKernel& resolved,
                                 const std::optional<LockedKernel>& lock) {
  trust::Candidate candidate;
  candidate.endpoint = request.config.endpoint;
  candidate.repo = request.repo;
  candidate.commit = resolved.pinned.commit;
  candidate.offline = request.config.offline || !resolved.cache_reason.empty();
  candidate.explicit_now = request.options.trust_remote_code.allows(request.repo);
  candidate.locked = lock.has_value();
  candidate.lock_has_digest = lock && !lock->variant_digests.empty();
  candidate.decision_recorded =
      context.state.is_recorded(candidate.endpoint, request.repo, resolved.pinned.commit);
  const bool could_count = !candidate.offline && context.policy.mode() != trust::Mode::kStrict &&
                           context.policy.counts_publisher_of(candidate.endpoint);
  if (could_count && !context.policy.decide(candidate).allow) {
    candidate.publisher = ask_publisher(request, context, client, candidate);
  }
  return candidate;
}

}  // namespace kernelhub
