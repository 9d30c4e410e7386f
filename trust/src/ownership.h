// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/trust/verifier.h"

#include <filesystem>
#include <set>
#include <sys/stat.h>

namespace kernelhub::trust {

/// Who else could write a file or a folder above it (trust spec T05). Sticky folders pass; a file
/// in doubt is loaded from a sealed copy, or refused.
class OwnershipCheck {
 public:
  /// `pinned`: a lock digest or signature fixes the bytes, so nothing is refused.
  OwnershipCheck(const Origin& origin, const TrustPolicy& policy, const Decision& decision,
                 bool pinned);
  void check(const std::filesystem::path& path, const struct stat& status);
  /// `directory` and every folder above it, by its real path.
  void check_parents(const std::filesystem::path& directory);
  bool needs_sealed() const noexcept { return needs_sealed_; }

 private:
  const Origin& origin_;
  bool strict_;
  bool own_files_only_;
  bool pinned_;
  bool needs_sealed_ = false;
  std::set<std::filesystem::path> seen_;
};

}  // namespace kernelhub::trust
