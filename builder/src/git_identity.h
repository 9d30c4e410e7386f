// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "source_tree.h"

#include <filesystem>
#include <optional>
#include <string>

namespace kernelhub::builder {

/// State of a project in its git repository.
struct GitIdentity {
  std::string tree;              // id of the project folder's tree at HEAD, 40 hex
  std::string commit;            // HEAD, 40 hex
  std::int64_t commit_time = 0;  // seconds since 1970
  bool dirty = false;            // a file of the build differs from HEAD or is not in it
};

/// Work tree that encloses `directory`, empty when there is none. Throws kIo for a repository that
/// cannot be read.
std::filesystem::path find_work_tree(const std::filesystem::path& directory);

/// Nothing without git, before the first commit, or when HEAD does not hold the project's folder.
/// Throws kIo for a repository that cannot be read.
std::optional<GitIdentity> read_git_identity(const std::filesystem::path& project_directory,
                                             const SourceTree& sources);

/// Unique part of a package id (package spec 1.2): tree id of the project's folder, with the source
/// hash added when files differ from HEAD or lie outside that folder; the source hash without git.
std::string unique_id(const std::optional<GitIdentity>& git, const SourceTree& sources);

}  // namespace kernelhub::builder
