// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "auth.h"
#include "http_message.h"
#include "repo_types.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

/// Bodies of answers (hub spec 2 and 3).
namespace kernelhub::server {

/// A file or folder of a listing.
struct ListedEntry {
  std::string path;
  const TreeFile* file = nullptr;  // null: a folder
  Digest folder_id;                // folders only
};

struct PreuploadAnswer {
  std::string path;
  bool is_lfs = false;
  std::optional<Digest> current;  // of the file as the head has it
};

struct LfsAnswer {
  Digest sha256;
  std::uint64_t size_bytes = 0;
  std::string upload_url;  // empty: stored already
  std::string verify_url;
};

std::string repo_info_body(const RepoKey& repo, const RepoInfo& info, const Commit& commit,
                           const Tree& tree);
std::string refs_body(const std::vector<Branch>& branches, bool with_pull_requests);
std::string entries_body(const std::vector<ListedEntry>& entries);
std::string whoami_body(const TokenRecord& token);
std::string organization_body(const std::string& name, bool is_trusted_publisher);
std::string user_body(const std::string& name);
std::string harnesses_body();
std::string health_body();
std::string created_repo_body(const RepoKey& repo, const std::string& url);
std::string validated_yaml_body();
std::string preupload_body(const std::vector<PreuploadAnswer>& files);
std::string lfs_batch_body(const std::vector<LfsAnswer>& objects);
std::string commit_body(const CommitHash& commit, const std::string& commit_url);

/// 200 with this JSON text.
HttpResponse json_response(std::string body);

}  // namespace kernelhub::server
