// SPDX-License-Identifier: Apache-2.0
#include "git_ids.h"

#include <fmt/format.h>

#include <string_view>

namespace kernelhub::server {
namespace {

Digest object_id(std::string_view kind, std::string_view content) {
  Hasher hasher(DigestAlgorithm::kSha1);
  hasher.update(fmt::format("{} {}", kind, content.size()));
  hasher.update("\0", 1);
  hasher.update(content);
  return hasher.finish();
}

std::string_view as_text(const Digest& digest) {
  return {reinterpret_cast<const char*>(digest.bytes.data()), digest.bytes.size()};
}

struct Folder {
  std::map<std::string, Folder> folders;
  std::map<std::string, Digest> files;
};

Digest write_folder(const Folder& folder, const std::string& path,
                    std::map<std::string, Digest>& ids) {
  // Git orders entries by name, folders as if their name ended in '/'.
  std::map<std::string, std::string> entries;
  for (const auto& [name, blob] : folder.files) {
    std::string entry = "100644 " + name;
    entry += '\0';
    entries[name] = entry.append(as_text(blob));
  }
  for (const auto& [name, child] : folder.folders) {
    const Digest id = write_folder(child, path.empty() ? name : path + "/" + name, ids);
    std::string entry = "40000 " + name;
    entry += '\0';
    entries[name + "/"] = entry.append(as_text(id));
  }
  std::string content;
  for (const auto& [name, entry] : entries) content += entry;
  return ids[path] = object_id("tree", content);
}

}  // namespace

std::string lfs_pointer(const Digest& sha256, std::uint64_t size_bytes) {
  return fmt::format("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
                     sha256.hex(), size_bytes);
}

Digest listed_blob(const TreeFile& file) {
  return file.is_lfs ? object_id("blob", lfs_pointer(file.sha256, file.size_bytes)) : file.git_blob;
}

std::map<std::string, Digest> folder_ids(const std::map<std::string, TreeFile>& files) {
  Folder root;
  for (const auto& [path, file] : files) {
    Folder* folder = &root;
    std::string_view rest = path;
    for (std::size_t slash; (slash = rest.find('/')) != std::string_view::npos;) {
      folder = &folder->folders[std::string(rest.substr(0, slash))];
      rest.remove_prefix(slash + 1);
    }
    folder->files.emplace(std::string(rest), listed_blob(file));
  }
  std::map<std::string, Digest> ids;
  write_folder(root, "", ids);
  return ids;
}

CommitHash commit_id(const Digest& tree, const std::vector<CommitHash>& parents,
                     const std::string& author, std::int64_t time_unix,
                     const std::string& message) {
  std::string content = fmt::format("tree {}\n", tree.hex());
  for (const CommitHash& parent : parents) content += fmt::format("parent {}\n", parent.str());
  const std::string identity = fmt::format("{0} <{0}@localhost> {1} +0000", author, time_unix);
  content += fmt::format("author {0}\ncommitter {0}\n\n{1}", identity, message);
  return CommitHash::parse(object_id("commit", content).hex());
}

}  // namespace kernelhub::server
