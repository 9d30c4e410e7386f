// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "repo_types.h"

#include <map>
#include <string>

/// True git object ids (SHA-1), so that a repository could be exported as git.
namespace kernelhub::server {

/// Pointer text that git stores in place of an LFS file.
std::string lfs_pointer(const Digest& sha256, std::uint64_t size_bytes);
/// Blob id that a listing shows: of the pointer for LFS files, else of the content.
Digest listed_blob(const TreeFile& file);
/// Folder path -> tree id, the root under "".
std::map<std::string, Digest> folder_ids(const std::map<std::string, TreeFile>& files);
/// Id of a commit with one identity as author and committer, at UTC.
CommitHash commit_id(const Digest& tree, const std::vector<CommitHash>& parents,
                     const std::string& author, std::int64_t time_unix, const std::string& message);

}  // namespace kernelhub::server
