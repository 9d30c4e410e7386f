// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cache_layout.h"
#include "commit_listing.h"

#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace kernelhub::hub {

/// Listings of commits, in memory and in the cache's sidecars. Thread-safe. What is learnt stays in
/// memory until `persist`: a repository folder without a snapshot would look corrupt to Python.
class ListingStore {
 public:
  explicit ListingStore(const CacheLayout& cache) : cache_(cache) {}
  std::optional<Tree> folder(const RepoId& repo, const CommitHash& commit, std::string_view folder);
  std::optional<Tree> recursive(const RepoId& repo, const CommitHash& commit,
                                std::string_view folder);
  void add_folder(const RepoId& repo, const CommitHash& commit, const std::string& folder,
                  const Tree& tree);
  void add_recursive(const RepoId& repo, const CommitHash& commit, const std::string& folder,
                     const Tree& tree);
  /// Sidecar that was there but unreadable, for offline errors.
  std::optional<std::filesystem::path> damaged_sidecar(const RepoId& repo,
                                                       const CommitHash& commit);
  /// Writes the sidecar when something new is known. Throws the errors of AtomicFile.
  void persist(const RepoId& repo, const CommitHash& commit);

 private:
  struct Known {
    CommitListing listing;
    bool unsaved = false;
    bool damaged = false;
  };
  Known& known(const RepoId& repo, const CommitHash& commit);  // mutex_ held
  const CacheLayout& cache_;
  std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, Known> known_;  // (repo, commit)
};

}  // namespace kernelhub::hub
