// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/unique_fd.h"
#include "kernelhub/loader/package.h"

#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace kernelhub {

/// The packages of this process by the SHA-256 of their library. One load per digest runs at a
/// time; no lock is held while it runs, because initialisers of a library may load others.
class PackageRegistry {
 public:
  static PackageRegistry& instance();

  Package load(trust::VerifiedPackage verified, const PackageLoadOptions& options);
  std::optional<Package> find(const std::filesystem::path& directory) const;
  std::vector<Package> all() const;

 private:
  using Identity = std::pair<std::uint64_t, std::uint64_t>;  // device, inode
  /// Held open, so that the inode number means this directory as long as the entry stands.
  struct Directory {
    UniqueFd fd;
    Package package;
  };
  class Turn;
  class Failure;
  void remember(const Digest& digest, const Package& package,
                const std::filesystem::path& directory);

  mutable std::mutex mutex_;
  std::condition_variable turn_over_;
  std::map<Digest, Package> packages_;
  std::map<Digest, std::thread::id> loading_;
  std::map<Identity, Directory> directories_;
  std::vector<std::shared_ptr<Package::State>> failed_;  // mapped, then refused
};

}  // namespace kernelhub
