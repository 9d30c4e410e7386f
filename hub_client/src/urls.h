// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/repo.h"

#include <string>
#include <string_view>

namespace kernelhub::hub {

enum class Slash { kKeep, kEncode };
/// RFC 3986 percent-encoding of everything but unreserved characters.
std::string percent_encode(std::string_view text, Slash slash);

/// Routes of hub spec 2 and 3 for repositories of type kernel below one endpoint, whose path prefix
/// is kept.
class Urls {
 public:
  explicit Urls(std::string endpoint) : endpoint_(std::move(endpoint)) {}
  const std::string& endpoint() const noexcept { return endpoint_; }

  std::string refs(const RepoId& repo) const;                                 // R2
  std::string revision(const RepoId& repo, std::string_view revision) const;  // R1
  enum class Depth { kFolder, kRecursive };
  std::string tree(const RepoId& repo, std::string_view revision, std::string_view path,
                   Depth depth) const;  // R3
  std::string resolve(const RepoId& repo, std::string_view revision,
                      std::string_view path) const;                            // R5
  std::string organization(std::string_view ns) const;                         // R8
  std::string create_repo() const;                                             // W1
  std::string branch(const RepoId& repo, std::string_view name) const;         // W3
  std::string preupload(const RepoId& repo, std::string_view revision) const;  // W5
  std::string lfs_batch(const RepoId& repo) const;                             // W6
  std::string commit(const RepoId& repo, std::string_view revision) const;     // W9
  /// Page of the repository for a browser.
  std::string page(const RepoId& repo) const;

 private:
  std::string api(const RepoId& repo) const;
  std::string endpoint_;
};

}  // namespace kernelhub::hub
