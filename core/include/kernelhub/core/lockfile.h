// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/core/repo.h"

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kernelhub {

/// One entry of kernels.lock, with the digests of kernelhub.lock beside it when there is one.
struct LockedKernel {
  RepoId repo;
  KernelSpec spec;
  CommitHash commit;
  /// Variant -> digest of the variant "sha256:<hex>" (trust spec 2.7); empty without
  /// kernelhub.lock.
  std::map<std::string, std::string> variant_digests;
};

/// Reads kernels.lock (package spec 5.1) and, when it lies beside it, kernelhub.lock.
class KERNELHUB_API Lockfile {
 public:
  /// Throws kInvalidLockfile naming file, item and field; kIo when it cannot be read.
  static Lockfile read(const std::filesystem::path& kernels_lock);
  const std::vector<LockedKernel>& kernels() const noexcept { return kernels_; }
  /// First entry of this repository, as the peer does.
  const LockedKernel* find(const RepoId& repo) const noexcept;
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
  std::vector<LockedKernel> kernels_;
};

}  // namespace kernelhub
