// SPDX-License-Identifier: Apache-2.0
#include "lfs_rules.h"

#include <fnmatch.h>
#include <sstream>

namespace kernelhub::server {
namespace {
constexpr std::uint64_t kAlwaysLfsBytes = 1u << 20;
}

const std::string_view kDefaultGitattributes =
    "*.so filter=lfs diff=lfs merge=lfs -text\n"
    "*.a filter=lfs diff=lfs merge=lfs -text\n"
    "*.bin filter=lfs diff=lfs merge=lfs -text\n"
    "*.cubin filter=lfs diff=lfs merge=lfs -text\n"
    "*.fatbin filter=lfs diff=lfs merge=lfs -text\n"
    "*.ptx filter=lfs diff=lfs merge=lfs -text\n";

LfsRules LfsRules::parse(std::string_view gitattributes) {
  LfsRules rules;
  std::istringstream lines{std::string(gitattributes)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string pattern;
    words >> pattern;
    if (pattern.empty() || pattern[0] == '#') continue;
    for (std::string attribute; words >> attribute;) {
      if (attribute == "filter=lfs") rules.patterns_.push_back(pattern);
    }
  }
  return rules;
}

bool LfsRules::matches(const std::string& path, std::uint64_t size_bytes) const {
  if (size_bytes == 0) return false;
  if (size_bytes >= kAlwaysLfsBytes) return true;
  const std::string name = path.substr(path.rfind('/') + 1);
  for (const std::string& pattern : patterns_) {
    // As in git: a pattern without '/' names a file in any folder.
    const bool whole_path = pattern.find('/') != std::string::npos;
    const std::string& subject = whole_path ? path : name;
    const char* glob = pattern.c_str() + (whole_path && pattern[0] == '/' ? 1 : 0);
    if (::fnmatch(glob, subject.c_str(), whole_path ? FNM_PATHNAME : 0) == 0) return true;
  }
  return false;
}

}  // namespace kernelhub::server
