// SPDX-License-Identifier: Apache-2.0
// Replies of a hub: refs, listings, publisher, errors. No path of a listing leaves its folder.
#include "hub_json.h"

#include "oracle.h"

#include "kernelhub/core/safe_path.h"

using namespace kernelhub;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  fuzz::accepts([&] {
    const hub::Refs refs = hub::parse_refs(text, "fuzzed");
    for (const hub::Branch& branch : refs.branches) {
      fuzz::require(CommitHash::is_commit(branch.commit.str()), "a ref leads to a commit");
    }
  });
  fuzz::accepts([&] { hub::parse_revision(text, "fuzzed"); });
  fuzz::accepts([&] { hub::parse_publisher_flag(text, "fuzzed"); });
  hub::parse_error_text(text);
  for (const char* folder : {"", "build/x"}) {
    hub::Tree tree;
    fuzz::accepts([&] { hub::parse_tree_page(text, "fuzzed", folder, tree); });
    for (const hub::TreeFile& file : tree.files) {
      fuzz::require(SafeRelPath::is_safe(file.path), "a listed path is safe");
      const std::string prefix = *folder == '\0' ? "" : std::string(folder) + "/";
      fuzz::require(file.path.rfind(prefix, 0) == 0, "a listed path lies in its folder");
    }
  }
  return 0;
}
