// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/config.h"
#include "kernelhub/core/export.h"
#include "kernelhub/trust/policy.h"
#include "kernelhub/trust/verifier.h"

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::trust {

/// Facts of a verified package for its audit line, taken before the package is handed to the
/// loader.
struct AuditEntry {
  std::string fields_json;
};
KERNELHUB_API AuditEntry audit_entry_of(const VerifiedPackage& package);

/// One JSON line per load or refusal (trust spec 2.10): O_APPEND, one write <= 4 KiB, 0600,
/// rotated at 10 MiB x 5. A failing write warns in standard and compat mode and throws
/// TrustError kAuditFailed in strict mode. Thread-safe.
class KERNELHUB_API AuditLog {
 public:
  AuditLog(const TrustPolicy& policy, const Config& config);
  void loaded(const AuditEntry& entry, std::string_view load_mode, double milliseconds) const;
  void refused(const Candidate& candidate, std::string_view code, std::string_view requested) const;
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  void append(const std::string& line) const;
  std::filesystem::path path_;
  Mode mode_;
  std::string policy_fingerprint_;
  std::vector<std::string> overrides_;
};

}  // namespace kernelhub::trust
