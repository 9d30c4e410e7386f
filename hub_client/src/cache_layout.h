// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/repo.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::hub {

enum class FileState : std::uint8_t { kAbsent, kDamaged, kPresent };

/// Places of hub spec 5.1 below one cache root, and the rules for reading and writing them. Holds
/// no state; every method may be called from any thread.
class CacheLayout {
 public:
  explicit CacheLayout(std::filesystem::path root) : root_(std::move(root)) {}
  const std::filesystem::path& root() const noexcept { return root_; }

  std::filesystem::path repo_dir(const RepoId& repo) const;
  std::filesystem::path blobs_dir(const RepoId& repo) const;
  std::filesystem::path locks_dir(const RepoId& repo) const;
  std::filesystem::path blob(const RepoId& repo, std::string_view etag) const;
  std::filesystem::path lock(const RepoId& repo, std::string_view etag) const;
  std::filesystem::path snapshot(const RepoId& repo, const CommitHash& commit) const;
  std::filesystem::path ref(const RepoId& repo, std::string_view name) const;
  std::filesystem::path sidecar(const RepoId& repo, const CommitHash& commit) const;
  std::filesystem::path python_tree(const RepoId& repo, const CommitHash& commit) const;

  /// Commit of a cached ref, nothing when there is none. Throws kCacheCorrupt for other content.
  std::optional<CommitHash> read_ref(const RepoId& repo, std::string_view name) const;
  /// Skipped when unchanged.
  void write_ref(const RepoId& repo, std::string_view name, const CommitHash& commit) const;
  /// N of refs/v<N>, ascending, of the repository's kernel folder, else of its model folder.
  std::vector<std::int64_t> cached_versions(const RepoId& repo) const;

  /// Whether `path`, links followed, is a regular file of this size.
  static FileState inspect(const std::filesystem::path& path, std::uint64_t size_bytes);
  /// What is wrong with a damaged entry, for messages.
  static std::string describe(const std::filesystem::path& path);
  /// Makes the repository's folders; throws kCacheReadOnly when they cannot be written.
  void prepare_for_writing(const RepoId& repo) const;
  /// Throws kDiskFull when fewer than `need_bytes` are free.
  void check_space(std::uint64_t need_bytes) const;
  /// Makes the parents of a file of a snapshot and checks that no link leads out of it.
  void prepare_pointer(const RepoId& repo, const CommitHash& commit,
                       const std::filesystem::path& pointer) const;
  /// Relative link to `blob`, in place of whatever is there. False where the file system has no
  /// links.
  static bool link_pointer(const std::filesystem::path& pointer, const std::filesystem::path& blob);
  /// Copy of `blob` as a real file, for file systems and settings without links.
  static void copy_pointer(const std::filesystem::path& pointer, const std::filesystem::path& blob);

 private:
  std::filesystem::path root_;
};

/// 0666 less the process's umask, which Linux shows without changing it.
unsigned shared_file_mode();

}  // namespace kernelhub::hub
