// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "reply_json.h"
#include "repo_types.h"

#include <optional>
#include <string>
#include <vector>

namespace kernelhub::server {

struct ListingPage {
  std::vector<ListedEntry> entries;
  bool has_more = false;
};

/// Entries of `folder` ("" = root) in path order behind the path `after`, at most `limit`.
/// Nothing when the tree has no such folder. Entries point into `tree`.
std::optional<ListingPage> list_folder(const Tree& tree, const std::string& folder,
                                       bool is_recursive, const std::string& after,
                                       std::size_t limit);
/// The file or folder at `path`.
std::optional<ListedEntry> find_entry(const Tree& tree, const std::string& path);

}  // namespace kernelhub::server
