// SPDX-License-Identifier: Apache-2.0
#include "ownership.h"

#include "trust_errors.h"

#include "kernelhub/core/core_errors.h"
#include "kernelhub/core/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <unistd.h>

namespace kernelhub::trust {

OwnershipCheck::OwnershipCheck(const Origin& origin, const TrustPolicy& policy,
                               const Decision& decision, bool pinned)
    : origin_(origin),
      strict_(policy.mode() == Mode::kStrict),
      own_files_only_(strict_ && std::find(decision.used.begin(), decision.used.end(),
                                           Evidence::kLocal) != decision.used.end()),
      pinned_(pinned) {}

void OwnershipCheck::check(const std::filesystem::path& path, const struct stat& status) {
  const bool is_folder = S_ISDIR(status.st_mode);
  const bool is_foreign = status.st_uid != ::geteuid() && status.st_uid != 0;
  const auto refuse = [&](std::string_view reason) {
    throw trust_errors::unsafe_ownership(origin_, path, status.st_uid, status.st_mode, reason);
  };
  if (own_files_only_ && !is_folder && status.st_uid != ::geteuid()) {
    refuse("is not owned by this user");
  }
  // In a sticky folder only the owner of an entry can replace it.
  const bool is_sticky = is_folder && (status.st_mode & S_ISVTX) != 0;
  const bool by_anybody = (status.st_mode & S_IWOTH) != 0 && !is_sticky;
  const bool by_group = (status.st_mode & S_IWGRP) != 0 && !is_sticky;
  if (!is_foreign && !by_anybody && !by_group) return;
  const std::string_view reason = by_anybody   ? "can be written by everybody"
                                  : is_foreign ? "belongs to another user"
                                               : "can be written by its group";
  if (!pinned_ && (by_anybody || strict_)) refuse(reason);
  needs_sealed_ = true;
  warn_once("ownership " + origin_.directory.string(),
            fmt::format("{} {}: its content is loaded from a sealed copy", path.string(), reason));
}

void OwnershipCheck::check_parents(const std::filesystem::path& directory) {
  for (std::filesystem::path at = directory;; at = at.parent_path()) {
    if (!seen_.insert(at).second) return;
    struct stat status {};
    if (::stat(at.c_str(), &status) != 0) throw core_errors::read_failed(at, errno);
    check(at, status);
    if (at == at.root_path()) return;
  }
}

}  // namespace kernelhub::trust
