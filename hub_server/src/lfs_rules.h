// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::server {

/// Content of .gitattributes in the first commit of a repository.
extern const std::string_view kDefaultGitattributes;

/// Which files a listing shows as LFS files: those that a `filter=lfs` line of .gitattributes
/// names and those of at least 1 MiB (hub spec 7).
class LfsRules {
 public:
  /// Reads attribute lines; lines of other filters are no concern of this class.
  static LfsRules parse(std::string_view gitattributes);
  bool matches(const std::string& path, std::uint64_t size_bytes) const;

 private:
  std::vector<std::string> patterns_;
};

}  // namespace kernelhub::server
