// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "resolve_spec.h"

#include "kernelhub/trust/audit_log.h"
#include "kernelhub/trust/policy.h"
#include "kernelhub/trust/trust_state.h"

#include <optional>

namespace kernelhub {

/// Policy, private record and audit log of one call.
struct TrustContext {
  trust::TrustPolicy policy;
  trust::TrustState state;
  trust::AuditLog audit;

  explicit TrustContext(const Config& config);
};

/// Throws TrustError and writes the audit line unless the decision allows; logs its warnings.
trust::Decision require_allowed(const TrustContext& context, const trust::Candidate& candidate,
                                trust::Decision decision, std::string_view requested);

/// What speaks for a repository at a commit before any of its files is fetched. The Hub is asked
/// for the publisher flag only when nothing else allows it and the answer would count.
trust::Candidate gather_evidence(const Request& request, TrustContext& context, hub::Client& client,
                                 const hub::ResolvedKernel& resolved,
                                 const std::optional<LockedKernel>& lock);

}  // namespace kernelhub
