// SPDX-License-Identifier: Apache-2.0
#include "tree_listing.h"

#include <algorithm>
#include <iterator>

namespace kernelhub::server {
namespace {

// Adds the entries of one sorted map that lie below `prefix`.
template <class Map, class Make>
void add_below(const Map& map, const std::string& prefix, bool is_recursive, Make&& make,
               std::vector<ListedEntry>& entries) {
  for (auto item = map.lower_bound(prefix); item != map.end(); ++item) {
    const std::string& path = item->first;
    if (path.compare(0, prefix.size(), prefix) != 0) break;
    if (path.size() == prefix.size()) continue;
    if (!is_recursive && path.find('/', prefix.size()) != std::string::npos) continue;
    entries.push_back(make(*item));
  }
}

}  // namespace

std::optional<ListingPage> list_folder(const Tree& tree, const std::string& folder,
                                       bool is_recursive, const std::string& after,
                                       std::size_t limit) {
  if (tree.folders.count(folder) == 0) return std::nullopt;
  const std::string prefix = folder.empty() ? "" : folder + "/";
  std::vector<ListedEntry> all;
  add_below(
      tree.files, prefix, is_recursive,
      [](const auto& item) {
        return ListedEntry{item.first, &item.second, {}};
      },
      all);
  add_below(
      tree.folders, prefix, is_recursive,
      [](const auto& item) {
        return ListedEntry{item.first, nullptr, item.second};
      },
      all);
  std::sort(all.begin(), all.end(),
            [](const ListedEntry& a, const ListedEntry& b) { return a.path < b.path; });
  const auto first = std::upper_bound(
      all.begin(), all.end(), after,
      [](const std::string& path, const ListedEntry& entry) { return path < entry.path; });
  ListingPage page;
  const auto last = std::min<std::size_t>(limit, static_cast<std::size_t>(all.end() - first));
  page.has_more = first + static_cast<std::ptrdiff_t>(last) != all.end();
  page.entries.assign(std::make_move_iterator(first),
                      std::make_move_iterator(first + static_cast<std::ptrdiff_t>(last)));
  return page;
}

std::optional<ListedEntry> find_entry(const Tree& tree, const std::string& path) {
  if (const auto file = tree.files.find(path); file != tree.files.end()) {
    return ListedEntry{path, &file->second, {}};
  }
  if (const auto folder = tree.folders.find(path); folder != tree.folders.end() && !path.empty()) {
    return ListedEntry{path, nullptr, folder->second};
  }
  return std::nullopt;
}

}  // namespace kernelhub::server
