// SPDX-License-Identifier: Apache-2.0
#include "git_identity.h"

#include "builder_errors.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/digest.h"

#include <git2.h>

#include <algorithm>
#include <memory>

namespace kernelhub::builder {
namespace {

namespace fs = std::filesystem;

template <class T, void (*Free)(T*)>
struct Deleter {
  void operator()(T* object) const noexcept { Free(object); }
};
using Repository = std::unique_ptr<git_repository, Deleter<git_repository, git_repository_free>>;
using Commit = std::unique_ptr<git_commit, Deleter<git_commit, git_commit_free>>;
using Tree = std::unique_ptr<git_tree, Deleter<git_tree, git_tree_free>>;
using TreeEntry = std::unique_ptr<git_tree_entry, Deleter<git_tree_entry, git_tree_entry_free>>;

class Library {
 public:
  Library() { git_libgit2_init(); }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  ~Library() { git_libgit2_shutdown(); }
};

[[noreturn]] void fail(const fs::path& directory) {
  const git_error* error = git_error_last();
  throw builder_errors::git_failed(directory, error ? error->message : "unknown reason");
}

Repository open_repository(const fs::path& directory) {
  git_repository* repository = nullptr;
  const int result = git_repository_open_ext(&repository, directory.c_str(), 0, nullptr);
  if (result == GIT_ENOTFOUND) return nullptr;
  if (result != 0) fail(directory);
  return Repository(repository);
}

fs::path work_tree_of(git_repository* repository) {
  const char* text = git_repository_workdir(repository);
  if (!text) return {};  // bare
  const fs::path path = fs::path(text).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

Commit head_commit(git_repository* repository, const fs::path& directory) {
  git_oid id;
  const int result = git_reference_name_to_id(&id, repository, "HEAD");
  if (result == GIT_ENOTFOUND) return nullptr;
  if (result != 0) fail(directory);
  git_commit* commit = nullptr;
  if (git_commit_lookup(&commit, repository, &id) != 0) fail(directory);
  return Commit(commit);
}

std::string hex(const git_oid& id) {
  char text[GIT_OID_HEXSZ + 1];
  return git_oid_tostr(text, sizeof text, &id);
}

/// Object id of `path` in the tree, "" when it is not there.
std::string id_at(git_tree* tree, const std::string& path) {
  git_tree_entry* entry = nullptr;
  if (git_tree_entry_bypath(&entry, tree, path.c_str()) != 0) return {};
  const TreeEntry owner(entry);
  return hex(*git_tree_entry_id(entry));
}

std::string blob_id(const fs::path& file) {
  const std::string content = read_file(file, 64u << 20);
  Hasher hasher = Hasher::git_blob(content.size());
  hasher.update(content);
  return hasher.finish().hex();
}

}  // namespace

fs::path find_work_tree(const fs::path& directory) {
  const Library library;
  const Repository repository = open_repository(directory);
  return repository ? work_tree_of(repository.get()) : fs::path();
}

std::optional<GitIdentity> read_git_identity(const fs::path& project_directory,
                                             const SourceTree& sources) {
  const Library library;
  const Repository repository = open_repository(project_directory);
  if (!repository) return std::nullopt;
  const fs::path work_tree = work_tree_of(repository.get());
  const Commit commit = head_commit(repository.get(), project_directory);
  if (!commit || work_tree.empty()) return std::nullopt;
  git_tree* raw_tree = nullptr;
  if (git_commit_tree(&raw_tree, commit.get()) != 0) fail(project_directory);
  const Tree tree(raw_tree);

  GitIdentity identity;
  const fs::path folder = fs::canonical(project_directory).lexically_relative(work_tree);
  identity.tree =
      folder == "." ? hex(*git_tree_id(tree.get())) : id_at(tree.get(), folder.string());
  if (identity.tree.empty()) return std::nullopt;
  identity.commit = hex(*git_commit_id(commit.get()));
  identity.commit_time = git_commit_time(commit.get());
  identity.dirty =
      std::any_of(sources.files.begin(), sources.files.end(), [&](const SourceTree::File& file) {
        const fs::path path = fs::canonical(file.absolute).lexically_relative(work_tree);
        return id_at(tree.get(), path.string()) != blob_id(file.absolute);
      });
  return identity;
}

std::string unique_id(const std::optional<GitIdentity>& git, const SourceTree& sources) {
  if (!git) return "s" + sources.source_hash.substr(0, 12);
  const std::string tree = git->tree.substr(0, 7);
  if (git->dirty) return tree + "_dirty_" + sources.source_hash.substr(0, 8);
  const bool own_files_only =
      std::all_of(sources.files.begin(), sources.files.end(),
                  [](const SourceTree::File& file) { return file.in_project; });
  return own_files_only ? tree : tree + "_" + sources.source_hash.substr(0, 8);
}

}  // namespace kernelhub::builder
