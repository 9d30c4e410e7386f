// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "repo_types.h"

#include "kernelhub/core/digest.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Bodies of requests (hub spec 2 and 3). All throw kInvalidJson, or kBadRequest naming the field.
namespace kernelhub::server {

struct CreateRepoRequest {
  std::string name;
  std::string organization;  // empty: the caller's own namespace
  RepoType type = RepoType::kModel;
  bool is_private = false;
};
CreateRepoRequest parse_create_repo(std::string_view body);

/// `startingPoint`, "main" by default.
std::string parse_starting_point(std::string_view body);

/// `paths` of the JSON form of paths-info.
std::vector<std::string> parse_paths(std::string_view body);

struct PreuploadFile {
  std::string path;
  std::uint64_t size_bytes = 0;
};
std::vector<PreuploadFile> parse_preupload(std::string_view body);

struct LfsObject {
  Digest sha256;
  std::uint64_t size_bytes = 0;
};
std::vector<LfsObject> parse_lfs_batch(std::string_view body);
LfsObject parse_lfs_verify(std::string_view body);

/// Throws unless the body is an object with a text `content`.
void check_yaml_request(std::string_view body);

}  // namespace kernelhub::server
