// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/hub/client.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Bodies and replies of the write routes (hub spec 3). Replies throw HubError kNotAHub when the
/// bytes are not what the route promises.
namespace kernelhub::hub {

struct UploadFile {
  std::string path;
  std::uint64_t size_bytes = 0;
  std::string sample_base64;  // of the first 512 bytes
};
enum class FileMode : std::uint8_t { kRegular, kLfs };

std::string create_repo_body(const RepoId& repo, bool is_private);
std::string create_branch_body(const CommitHash& starting_point);
std::string preupload_body(const std::vector<UploadFile>& files);
/// By path.
std::map<std::string, FileMode> parse_preupload(std::string_view bytes, const std::string& origin);

struct LfsObject {
  std::string sha256;
  std::uint64_t size_bytes = 0;
};
/// Where to send one object; no `upload_url`: the server has it.
struct LfsAction {
  std::string sha256;
  std::string upload_url;
  std::vector<std::pair<std::string, std::string>> upload_headers;
  std::string verify_url;
  std::string error;  // why the server refuses this object
};
std::string lfs_batch_body(const std::vector<LfsObject>& objects, const std::string& branch);
std::vector<LfsAction> parse_lfs_batch(std::string_view bytes, const std::string& origin);
std::string lfs_verify_body(const LfsObject& object);

// Lines of a commit, each ending with '\n'.
std::string commit_header_line(const std::string& summary, const std::string& description,
                               const CommitHash& parent);
/// Line of an inline file; its base64 content goes between the two parts.
struct FileLine {
  std::string before;
  std::string after;
};
FileLine commit_file_line(const std::string& path);
std::string commit_lfs_line(const std::string& path, const LfsObject& object);
std::string commit_deletion_line(const std::string& path);
struct CommitReply {
  CommitHash commit;
  std::string url;
};
CommitReply parse_commit_reply(std::string_view bytes, const std::string& origin);

}  // namespace kernelhub::hub
