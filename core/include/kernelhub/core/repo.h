// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kernelhub {

/// `name` or `namespace/name` on the Hub, checked (hub spec, repo id row).
class KERNELHUB_API RepoId {
 public:
  /// Throws kInvalidRepoId naming the offending part.
  static RepoId parse(std::string_view text);
  const std::string& str() const noexcept { return text_; }
  /// Text before '/', empty when there is none.
  std::string_view ns() const noexcept;
  std::string_view name() const noexcept;
  /// True when a kernel of this name may lie in the repository: repository names allow what kernel
  /// names do not, upper case and '_'.
  bool may_hold(std::string_view kernel_name) const;
  friend bool operator==(const RepoId& a, const RepoId& b) { return a.text_ == b.text_; }
  friend bool operator<(const RepoId& a, const RepoId& b) { return a.text_ < b.text_; }

 private:
  explicit RepoId(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

/// Full 40-hex commit id; all that happens after resolving a revision uses only this.
class KERNELHUB_API CommitHash {
 public:
  /// Throws kInvalidRevision unless `text` is 40 hex digits; stored lower-case.
  static CommitHash parse(std::string_view text);
  static bool is_commit(std::string_view text) noexcept;
  const std::string& str() const noexcept { return text_; }
  friend bool operator==(const CommitHash& a, const CommitHash& b) { return a.text_ == b.text_; }
  friend bool operator!=(const CommitHash& a, const CommitHash& b) { return !(a == b); }

 private:
  explicit CommitHash(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

/// What a user asks for: exactly one of a kernel version N (branch vN) or a revision (branch, tag
/// or commit).
///
///   get_kernel("org/name", {.version = 1});        // C++20 designated initialiser
struct KERNELHUB_API KernelSpec {
  std::optional<std::int64_t> version;
  std::optional<std::string> revision;

  static KernelSpec of_version(std::int64_t version);
  static KernelSpec of_revision(std::string revision);
  /// Throws kInvalidArgument unless exactly one is set and a version is >= 0, kInvalidRevision when
  /// the revision is no git reference name.
  void validate() const;
  /// "v1" or the revision as given.
  std::string str() const;
};

/// A repository at one commit.
struct PinnedKernel {
  RepoId repo;
  CommitHash commit;
  /// Version N when the request named one.
  std::optional<std::int64_t> version;
};

/// N of a branch named exactly `v<decimal integer>`, else nothing.
KERNELHUB_API std::optional<std::int64_t> version_of_branch(std::string_view branch) noexcept;

}  // namespace kernelhub
