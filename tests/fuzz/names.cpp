// SPDX-License-Identifier: Apache-2.0
// Variant names, repository ids, commits and relative paths.
#include "oracle.h"

#include "kernelhub/core/repo.h"
#include "kernelhub/core/safe_path.h"
#include "kernelhub/core/unique_fd.h"
#include "kernelhub/core/variant.h"

#include <cerrno>

using namespace kernelhub;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(fuzz::text_of(data, size));
  if (const auto variant = Variant::parse(text)) {
    fuzz::require(variant->str() == text, "a variant prints as it was read");
  }
  fuzz::accepts(
      [&] { fuzz::require(RepoId::parse(text).str() == text, "a repo id prints itself"); });
  fuzz::accepts([&] {
    const CommitHash commit = CommitHash::parse(text);  // written in lower case
    fuzz::require(CommitHash::parse(commit.str()) == commit, "a commit prints itself");
  });
  version_of_branch(text);
  if (!SafeRelPath::is_safe(text)) return 0;
  static const fuzz::Folder folder;
  static const UniqueFd root(open(folder.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  // What is accepted lies beneath the root: it can only be absent.
  const bool opened = fuzz::accepts(
      [&] { open_beneath(root.get(), SafeRelPath::parse(text, "fuzzed"), O_RDONLY | O_CLOEXEC); });
  fuzz::require(!opened, "nothing lies in an empty folder");
  const auto joined = (folder.path() / text).lexically_normal().string();
  fuzz::require(joined.rfind(folder.path().string() + "/", 0) == 0, "a safe path stays beneath");
  return 0;
}
