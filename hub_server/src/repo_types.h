// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/digest.h"
#include "kernelhub/core/repo.h"

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::server {

enum class RepoType : std::uint8_t { kModel, kDataset, kSpace, kKernel };

/// How a repo type is spelled: in JSON, after /api/, and before the id in page URLs.
struct RepoTypeNames {
  RepoType type;
  std::string_view word;
  std::string_view api_segment;
  std::string_view url_prefix;
};
inline constexpr std::array<RepoTypeNames, 4> kRepoTypes = {{
    {RepoType::kModel, "model", "models", ""},
    {RepoType::kDataset, "dataset", "datasets", "datasets/"},
    {RepoType::kSpace, "space", "spaces", "spaces/"},
    {RepoType::kKernel, "kernel", "kernels", "kernels/"},
}};
constexpr const RepoTypeNames& names_of(RepoType type) {
  return kRepoTypes[static_cast<std::size_t>(type)];
}

struct RepoKey {
  RepoType type;
  RepoId id;
};

/// One file of a commit.
struct TreeFile {
  std::uint64_t size_bytes = 0;
  Digest git_blob;      // of the content
  Digest sha256;        // of the content
  bool is_lfs = false;  // shown as an LFS file (hub spec 7, LFS view)
};

/// All files of a commit by path, in byte order.
struct Tree {
  Digest id;
  std::map<std::string, TreeFile> files;
  std::map<std::string, Digest> folders;  // path -> tree id, the root under ""
};

struct Commit {
  CommitHash id;
  Digest tree;
  std::vector<CommitHash> parents;
  std::string author;
  std::int64_t time_unix = 0;  // seconds
  std::string title;
  std::string description;
};

struct RepoInfo {
  bool is_private = false;
  std::int64_t created_unix = 0;  // seconds
};

struct Branch {
  std::string name;
  CommitHash head;
};

}  // namespace kernelhub::server
