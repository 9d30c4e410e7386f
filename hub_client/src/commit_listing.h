// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/hub/client.h"

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::hub {

/// What is known of one commit's tree; a commit never changes, so knowledge only grows.
class CommitListing {
 public:
  /// Direct children of `folder` ("" = root), when all of them are known.
  std::optional<Tree> folder(std::string_view folder) const;
  /// All files below `folder`, when all of them are known.
  std::optional<Tree> recursive(std::string_view folder) const;
  /// Each returns whether something new was learnt.
  bool add_folder(const std::string& folder, const Tree& tree);
  bool add_recursive(const std::string& folder, const Tree& tree);
  /// Files alone; says nothing about the completeness of any folder.
  void add_files(const std::vector<TreeFile>& files);
  bool merge(const CommitListing& other);

  const std::map<std::string, TreeFile>& files() const noexcept { return files_; }
  const std::map<std::string, std::set<std::string>>& folders() const noexcept { return folders_; }
  const std::set<std::string>& complete() const noexcept { return complete_; }

 private:
  bool is_complete(std::string_view folder) const;
  std::map<std::string, TreeFile> files_;
  std::map<std::string, std::set<std::string>> folders_;  // folder -> folders directly inside
  std::set<std::string> complete_;                        // every file below is in files_
};

/// The sidecar `.kernelhub/<commit>.json` (docs/formats/cache.md).
std::string sidecar_to_json(const RepoId& repo, const CommitHash& commit,
                            const CommitListing& listing);
/// Nothing when the bytes are damaged, of a newer format, or about another commit.
std::optional<CommitListing> parse_sidecar(std::string_view bytes, const std::string& origin,
                                           const RepoId& repo, const CommitHash& commit);
/// `trees/<commit>.json` of the Python client: the whole repository. Nothing when damaged or newer.
std::optional<CommitListing> parse_python_tree(std::string_view bytes, const std::string& origin);

}  // namespace kernelhub::hub
