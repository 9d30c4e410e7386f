// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/config.h"
#include "kernelhub/core/export.h"
#include "kernelhub/core/repo.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

/// Who may run code in this process (trust spec 2). Pure: decisions need no I/O and no clock.
namespace kernelhub::trust {

enum class Mode : std::uint8_t { kCompat, kStandard, kStrict };
KERNELHUB_API std::string_view mode_name(Mode mode) noexcept;

/// What speaks for a candidate (trust spec 2.1).
enum class Evidence : std::uint8_t { kLock, kSignature, kPublisher, kLocal, kExplicit };
KERNELHUB_API std::string_view evidence_name(Evidence evidence) noexcept;

/// Answer of the Hub about a namespace, or why there is none.
enum class PublisherFlag : std::uint8_t {
  kNotAsked,
  kTrusted,
  kUntrusted,
  kUnverifiable,  // request failed; `publisher_error` says why
};

/// `trust_remote_code` of a call: none, all, or a list of repo ids compared in full.
struct KERNELHUB_API TrustRemoteCode {
  bool all = false;
  std::vector<std::string> repos;
  bool allows(const RepoId& repo) const noexcept;
};

/// All that is known of a package when a decision is made.
struct Candidate {
  std::string endpoint;        // URL of the hub in use; empty for local directories
  std::optional<RepoId> repo;  // absent for a local path
  std::optional<CommitHash> commit;
  std::string variant;
  std::filesystem::path local_path;
  bool is_local_override = false;  // LOCAL_KERNELS
  bool offline = false;
  PublisherFlag publisher = PublisherFlag::kNotAsked;
  std::string publisher_error;
  bool explicit_now = false;       // this call's trust_remote_code allows the repo
  bool decision_recorded = false;  // explicit or publisher decision recorded for this commit
  bool locked = false;             // commit comes from a lock file
  bool lock_has_digest = false;
  bool dirty = false;            // provenance.*.dirty
  bool signature_valid = false;  // an allowed signer signed metadata.json
};

/// Never silent: `reason` names rule and evidence, `remedy` the narrowest way out.
struct Decision {
  bool allow = false;
  std::vector<Evidence> used;
  std::string code;  // "TrustDenied", "PublisherUnverifiable", ""
  std::string reason;
  std::string remedy;
  std::vector<std::string> warnings;
};

/// Merged policy of /etc, user file, KERNELHUB_TRUST (trust spec 2.4). Immutable value.
class KERNELHUB_API TrustPolicy {
 public:
  /// Reads the policy files named by `config`; a missing file is fine.
  /// Throws TrustError kPolicyInvalid naming file and line for an unknown key, bad value, foreign
  /// owner or group/other-writable file, or a KERNELHUB_TRUST below the files' floor.
  static TrustPolicy load(const Config& config);
  /// Built-in defaults without any file.
  static TrustPolicy defaults();
  Mode mode() const noexcept { return mode_; }
  /// Rule and file that set the mode, e.g. "built-in" or "/etc/kernelhub/trust.toml:3".
  const std::string& mode_origin() const noexcept { return mode_origin_; }
  bool require_sealed() const noexcept { return require_sealed_; }
  bool allow_http() const noexcept { return allow_http_; }
  /// Empty: auditing is off by policy; unset: the default place below the state directory.
  const std::optional<std::filesystem::path>& audit_path() const noexcept { return audit_path_; }
  /// "sha256:<hex>" over the policy in force, for the audit line.
  const std::string& fingerprint() const noexcept { return fingerprint_; }
  /// True when the publisher flag of this endpoint counts: the built-in endpoint, a listed one, or
  /// any in compat mode.
  bool counts_publisher_of(std::string_view endpoint) const;
  /// Step 2 of the pipeline: `deny` rules on the id alone. An allowed Decision has no evidence yet.
  Decision decide_id(const RepoId& repo) const;
  /// Steps 4 and 10. Pure.
  Decision decide(const Candidate& candidate) const;
  /// A policy at least as strict as both.
  TrustPolicy restricted_by(const TrustPolicy& other) const;

 private:
  /// One [[source]] table of a policy file.
  struct SourceRule {
    std::string match;   // repo id, or "namespace/*"
    std::string origin;  // file:line
    bool deny = false;
    std::filesystem::path path;  // where a local override of it may lie in strict mode
  };
  friend class PolicyMerge;
  friend class Judgement;
  const SourceRule* deny_rule_for(const RepoId& repo) const;
  bool lists_override(const RepoId& repo, const std::filesystem::path& directory) const;
  void seal();  // sorts and computes the fingerprint
  Mode mode_ = Mode::kStandard;
  std::string mode_origin_ = "built-in";
  std::vector<std::string> endpoints_;
  std::vector<SourceRule> sources_;
  bool allow_http_ = false;
  bool require_sealed_ = false;
  std::optional<std::filesystem::path> audit_path_;
  std::string fingerprint_;
};

}  // namespace kernelhub::trust
