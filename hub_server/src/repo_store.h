// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "repo_types.h"

#include "kernelhub/core/file_lock.h"
#include "kernelhub/server/object_store.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace kernelhub::server {

/// One change of a commit. Paths are checked (commit_paths.h).
struct CommitChange {
  enum class Kind : std::uint8_t { kPutFile, kDeleteFile, kDeleteFolder };
  Kind kind = Kind::kPutFile;
  std::string path;
  std::optional<StoredObject> object;  // kPutFile only
};

struct CommitRequest {
  std::string title;
  std::string description;
  std::string parent;  // hex prefix of at least 7 digits, empty: none demanded
  std::string author;
  std::vector<CommitChange> changes;
};

/// Repositories below `<root>/repos/<type>/<ns>/<name>`: refs, commits and trees as files.
/// Writers of one repository take its lock; readers never block, since every file is renamed into
/// place and a ref goes last. Thread-safe and safe between processes.
class RepoStore {
 public:
  using Clock = std::function<std::int64_t()>;  // seconds since 1970
  RepoStore(std::filesystem::path root, const ObjectStore& objects, Clock clock);

  std::optional<RepoInfo> info(const RepoKey& repo) const;
  /// Makes the repository with a `main` commit holding .gitattributes. Throws kConflict with the
  /// given URL when it exists.
  void create(const RepoKey& repo, bool is_private, const std::string& author,
              const std::string& repo_url) const;
  bool has_namespace(const std::string& ns) const;

  std::vector<Branch> branches(const RepoKey& repo) const;
  /// Branch, refs/heads/<branch>, commit or unique prefix of one (7 to 39 digits) -> commit.
  /// Throws kRevisionNotFound.
  CommitHash resolve(const RepoKey& repo, const std::string& revision) const;
  Commit commit(const RepoKey& repo, const CommitHash& id) const;
  std::shared_ptr<const Tree> tree(const RepoKey& repo, const CommitHash& commit_id) const;

  /// Throws kConflict when the branch exists, kRevisionNotFound for an unknown start.
  void create_branch(const RepoKey& repo, const std::string& branch,
                     const std::string& starting_point) const;
  void delete_branch(const RepoKey& repo, const std::string& branch) const;
  /// All or nothing. An unchanged tree makes no commit and gives the head. Throws
  /// kPreconditionFailed when the parent is not the head, kEntryNotFound, kBadRequest.
  CommitHash commit_changes(const RepoKey& repo, const std::string& branch,
                            const CommitRequest& request) const;

 private:
  std::filesystem::path folder(const RepoKey& repo) const;
  std::filesystem::path branch_file(const RepoKey& repo, const std::string& branch) const;
  std::optional<CommitHash> head(const RepoKey& repo, const std::string& branch) const;
  FileLock lock(const RepoKey& repo) const;
  void apply(const RepoKey& repo, const CommitHash& parent, const CommitChange& change,
             Tree& tree) const;
  void set_lfs_flags(Tree& tree) const;
  CommitHash write_commit(const std::filesystem::path& repo_folder, const Tree& tree,
                          const std::vector<CommitHash>& parents,
                          const CommitRequest& request) const;

  std::filesystem::path root_;
  const ObjectStore* objects_;
  Clock clock_;
  // Trees are immutable, so the cache needs no invalidation.
  mutable std::mutex cache_mutex_;
  mutable std::map<std::string, std::shared_ptr<const Tree>> tree_cache_;
};

/// Throws kBadRequest unless git would accept `name` as a branch and it is no refs/ name.
void check_branch_name(const std::string& name);

}  // namespace kernelhub::server
