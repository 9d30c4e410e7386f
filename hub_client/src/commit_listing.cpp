// SPDX-License-Identifier: Apache-2.0
#include "commit_listing.h"

namespace kernelhub::hub {
namespace {

// The part of `path` after "folder/", nothing when it is not below it.
std::optional<std::string_view> below(std::string_view path, std::string_view folder) {
  if (folder.empty()) return path;
  const bool inside = path.size() > folder.size() + 1 && path.substr(0, folder.size()) == folder &&
                      path[folder.size()] == '/';
  if (!inside) return std::nullopt;
  return path.substr(folder.size() + 1);
}

}  // namespace

bool CommitListing::is_complete(std::string_view folder) const {
  for (const std::string& known : complete_) {
    if (known == folder || below(folder, known)) return true;
  }
  return false;
}

std::optional<Tree> CommitListing::folder(std::string_view folder) const {
  const auto listed = folders_.find(std::string(folder));
  if (listed == folders_.end() && !is_complete(folder)) return std::nullopt;
  Tree tree;
  std::set<std::string> directories;
  if (listed != folders_.end()) directories = listed->second;
  for (const auto& [path, file] : files_) {
    const auto rest = below(path, folder);
    if (!rest) continue;
    const std::size_t slash = rest->find('/');
    if (slash == std::string_view::npos) {
      tree.files.push_back(file);
    } else {
      directories.insert(path.substr(0, path.size() - rest->size() + slash));
    }
  }
  tree.directories.assign(directories.begin(), directories.end());
  return tree;
}

std::optional<Tree> CommitListing::recursive(std::string_view folder) const {
  if (!is_complete(folder)) return std::nullopt;
  Tree tree;
  std::set<std::string> directories;
  for (const auto& [path, file] : files_) {
    const auto rest = below(path, folder);
    if (!rest) continue;
    tree.files.push_back(file);
    for (std::size_t slash = rest->find('/'); slash != std::string_view::npos;
         slash = rest->find('/', slash + 1)) {
      directories.insert(path.substr(0, path.size() - rest->size() + slash));
    }
  }
  tree.directories.assign(directories.begin(), directories.end());
  return tree;
}

bool CommitListing::add_folder(const std::string& folder, const Tree& tree) {
  add_files(tree.files);
  const std::set<std::string> directories(tree.directories.begin(), tree.directories.end());
  return folders_.insert_or_assign(folder, directories).second;
}

bool CommitListing::add_recursive(const std::string& folder, const Tree& tree) {
  add_files(tree.files);
  return complete_.insert(folder).second;
}

void CommitListing::add_files(const std::vector<TreeFile>& files) {
  for (const TreeFile& file : files) files_.insert_or_assign(file.path, file);
}

bool CommitListing::merge(const CommitListing& other) {
  const std::size_t before = files_.size() + folders_.size() + complete_.size();
  files_.insert(other.files_.begin(), other.files_.end());
  folders_.insert(other.folders_.begin(), other.folders_.end());
  complete_.insert(other.complete_.begin(), other.complete_.end());
  return files_.size() + folders_.size() + complete_.size() != before;
}

}  // namespace kernelhub::hub
