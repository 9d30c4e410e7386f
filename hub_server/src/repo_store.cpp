// SPDX-License-Identifier: Apache-2.0
#include "repo_store.h"

#include "git_ids.h"
#include "lfs_rules.h"
#include "server_errors.h"
#include "store_json.h"

#include "kernelhub/core/atomic_file.h"

#include <algorithm>
#include <cerrno>
#include <unistd.h>
#include <utility>

namespace kernelhub::server {
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kMaxTreeFile = 256u << 20;
constexpr std::size_t kCachedTrees = 64;
constexpr std::string_view kHeadsPrefix = "refs/heads/";

std::string bare_branch(const std::string& revision) {
  return revision.rfind(kHeadsPrefix, 0) == 0 ? revision.substr(kHeadsPrefix.size()) : revision;
}

bool is_branch_name(const std::string& name) {
  try {
    check_branch_name(name);
    return true;
  } catch (const Error&) {
    return false;
  }
}

bool is_hex_prefix(const std::string& text) {
  return text.size() >= 7 && text.size() < 40 &&
         text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// The temp file lies outside refs/, where it would read as a branch. The caller holds the lock.
void write_ref(const fs::path& repo_folder, const fs::path& ref, const CommitHash& commit) {
  const fs::path pending = repo_folder / "pending-ref";
  write_file_atomically(pending, commit.str());
  fs::rename(pending, ref);
}

CommitHash read_ref(const fs::path& path) {
  const std::string text = read_file(path, 4096);
  if (!CommitHash::is_commit(text)) {
    throw server_errors::store_corrupt(path, "ref does not hold a commit id");
  }
  return CommitHash::parse(text);
}

}  // namespace

RepoStore::RepoStore(fs::path root, const ObjectStore& objects, Clock clock)
    : root_(std::move(root)), objects_(&objects), clock_(std::move(clock)) {
  fs::create_directories(root_ / "repos");
}

fs::path RepoStore::folder(const RepoKey& repo) const {
  return root_ / "repos" / names_of(repo.type).api_segment / repo.id.str();
}

fs::path RepoStore::branch_file(const RepoKey& repo, const std::string& branch) const {
  return folder(repo) / "refs" / "heads" / branch;
}

FileLock RepoStore::lock(const RepoKey& repo) const { return FileLock(folder(repo) / "lock"); }

std::optional<RepoInfo> RepoStore::info(const RepoKey& repo) const {
  const fs::path path = folder(repo) / "repo.json";
  if (repo.id.ns().empty() || !fs::exists(path)) return std::nullopt;
  return repo_from_json(read_file(path), path.string());
}

bool RepoStore::has_namespace(const std::string& ns) const {
  return std::any_of(kRepoTypes.begin(), kRepoTypes.end(), [&](const RepoTypeNames& names) {
    return fs::is_directory(root_ / "repos" / names.api_segment / ns);
  });
}

void RepoStore::create(const RepoKey& repo, bool is_private, const std::string& author,
                       const std::string& repo_url) const {
  fs::create_directories(folder(repo));
  const FileLock held = lock(repo);
  if (info(repo)) throw server_errors::repo_exists(repo, repo_url);
  const StoredObject attributes = objects_->put(kDefaultGitattributes);
  Tree tree;
  tree.files.emplace(".gitattributes",
                     TreeFile{attributes.size_bytes, attributes.git_blob, attributes.sha256});
  const CommitRequest first{"initial commit", "", "", author, {}};
  const CommitHash commit = write_commit(folder(repo), tree, {}, first);
  fs::create_directories(branch_file(repo, "main").parent_path());
  write_ref(folder(repo), branch_file(repo, "main"), commit);
  // Readers take repo.json as the sign of life, so it goes last.
  write_file_atomically(folder(repo) / "repo.json", repo_to_json({is_private, clock_()}));
}

std::vector<Branch> RepoStore::branches(const RepoKey& repo) const {
  const fs::path heads = folder(repo) / "refs" / "heads";
  std::vector<Branch> found;
  std::error_code gone;
  for (fs::recursive_directory_iterator entry(heads, gone), end; entry != end;
       entry.increment(gone)) {
    const std::string name = entry->path().lexically_relative(heads).string();
    if (!entry->is_regular_file(gone) || !is_branch_name(name)) continue;
    if (const auto commit = head(repo, name)) found.push_back({name, *commit});
  }
  std::sort(found.begin(), found.end(),
            [](const Branch& a, const Branch& b) { return a.name < b.name; });
  return found;
}

std::optional<CommitHash> RepoStore::head(const RepoKey& repo, const std::string& branch) const {
  if (!is_branch_name(branch)) return std::nullopt;
  const fs::path path = branch_file(repo, branch);
  std::error_code none;
  if (!fs::is_regular_file(path, none)) return std::nullopt;
  return read_ref(path);
}

CommitHash RepoStore::resolve(const RepoKey& repo, const std::string& revision) const {
  if (const auto commit = head(repo, bare_branch(revision))) return *commit;
  const fs::path commits = folder(repo) / "commits";
  if (CommitHash::is_commit(revision)) {
    const CommitHash exact = CommitHash::parse(revision);
    if (fs::exists(commits / (exact.str() + ".json"))) return exact;
  } else if (is_hex_prefix(revision)) {
    std::vector<std::string> matches;
    for (const fs::directory_entry& entry : fs::directory_iterator(commits)) {
      const std::string id = entry.path().stem().string();
      if (id.rfind(revision, 0) == 0 && CommitHash::is_commit(id)) matches.push_back(id);
    }
    if (matches.size() == 1) return CommitHash::parse(matches.front());
  }
  throw server_errors::revision_not_found(repo, revision);
}

Commit RepoStore::commit(const RepoKey& repo, const CommitHash& id) const {
  const fs::path path = folder(repo) / "commits" / (id.str() + ".json");
  return commit_from_json(read_file(path), path.string());
}

std::shared_ptr<const Tree> RepoStore::tree(const RepoKey& repo, const CommitHash& id) const {
  // Keyed by repository as well: a commit id of one must not open another.
  const std::string key = folder(repo).string() + "@" + id.str();
  {
    const std::lock_guard guard(cache_mutex_);
    if (const auto found = tree_cache_.find(key); found != tree_cache_.end()) return found->second;
  }
  const fs::path path = folder(repo) / "trees" / (commit(repo, id).tree.hex() + ".json");
  Tree read = tree_from_json(read_file(path, kMaxTreeFile), path.string());
  read.folders = folder_ids(read.files);
  auto tree = std::make_shared<const Tree>(std::move(read));
  const std::lock_guard guard(cache_mutex_);
  if (tree_cache_.size() >= kCachedTrees) tree_cache_.clear();
  return tree_cache_.emplace(key, std::move(tree)).first->second;
}

void RepoStore::create_branch(const RepoKey& repo, const std::string& branch,
                              const std::string& starting_point) const {
  check_branch_name(branch);
  const FileLock held = lock(repo);
  if (head(repo, branch)) throw server_errors::branch_exists(repo, branch);
  const CommitHash start = resolve(repo, starting_point);
  const fs::path path = branch_file(repo, branch);
  std::error_code failed;
  fs::create_directories(path.parent_path(), failed);
  if (failed || fs::is_directory(path)) throw server_errors::branch_name_conflict(repo, branch);
  write_ref(folder(repo), path, start);
}

void RepoStore::delete_branch(const RepoKey& repo, const std::string& branch) const {
  check_branch_name(branch);
  if (branch == "main") throw server_errors::main_not_deletable(repo);
  const FileLock held = lock(repo);
  if (!head(repo, branch)) throw server_errors::revision_not_found(repo, branch);
  const fs::path heads = folder(repo) / "refs" / "heads";
  fs::path path = branch_file(repo, branch);
  fs::remove(path);
  // Empty parent folders would forbid a branch of their name.
  while ((path = path.parent_path()) != heads && ::rmdir(path.c_str()) == 0) {
  }
}

CommitHash RepoStore::commit_changes(const RepoKey& repo, const std::string& revision,
                                     const CommitRequest& request) const {
  const std::string branch = bare_branch(revision);
  const FileLock held = lock(repo);
  const auto parent = head(repo, branch);
  if (!parent) {
    resolve(repo, revision);
    throw server_errors::not_a_branch(repo, revision);
  }
  if (!request.parent.empty() && parent->str().rfind(request.parent, 0) != 0) {
    throw server_errors::head_moved(repo, branch, *parent, request.parent);
  }
  Tree changed = *tree(repo, *parent);
  const Digest before = changed.id;
  for (const CommitChange& change : request.changes) apply(repo, *parent, change, changed);
  set_lfs_flags(changed);
  changed.id = folder_ids(changed.files).at("");
  if (changed.id == before) return *parent;
  const CommitHash commit = write_commit(folder(repo), changed, {*parent}, request);
  write_ref(folder(repo), branch_file(repo, branch), commit);
  return commit;
}

void RepoStore::apply(const RepoKey& repo, const CommitHash& parent, const CommitChange& change,
                      Tree& tree) const {
  auto& files = tree.files;
  if (change.kind == CommitChange::Kind::kDeleteFile) {
    if (files.erase(change.path) == 0) {
      throw server_errors::file_to_delete_missing(repo, parent, change.path);
    }
    return;
  }
  const std::string below = change.path + "/";
  auto first = files.lower_bound(below);
  auto last = first;
  while (last != files.end() && last->first.rfind(below, 0) == 0) ++last;
  if (change.kind == CommitChange::Kind::kDeleteFolder) {
    files.erase(first, last);
    return;
  }
  if (first != last) throw server_errors::path_conflict(change.path);
  for (std::size_t slash = change.path.find('/'); slash != std::string::npos;
       slash = change.path.find('/', slash + 1)) {
    if (files.count(change.path.substr(0, slash)) != 0) {
      throw server_errors::path_conflict(change.path.substr(0, slash));
    }
  }
  files[change.path] = {change.object->size_bytes, change.object->git_blob, change.object->sha256};
}

void RepoStore::set_lfs_flags(Tree& tree) const {
  std::string attributes;
  if (const auto found = tree.files.find(".gitattributes"); found != tree.files.end()) {
    const UniqueFd fd = objects_->open(found->second.sha256);
    attributes = read_file("/proc/self/fd/" + std::to_string(fd.get()));
  }
  const LfsRules rules = LfsRules::parse(attributes);
  for (auto& [path, file] : tree.files) file.is_lfs = rules.matches(path, file.size_bytes);
}

CommitHash RepoStore::write_commit(const fs::path& repo_folder, const Tree& tree,
                                   const std::vector<CommitHash>& parents,
                                   const CommitRequest& request) const {
  Tree stored = tree;
  stored.id = folder_ids(stored.files).at("");
  const std::string message =
      request.title + "\n" + (request.description.empty() ? "" : "\n" + request.description + "\n");
  const std::int64_t now = clock_();
  const CommitHash id = commit_id(stored.id, parents, request.author, now, message);
  fs::create_directories(repo_folder / "trees");
  fs::create_directories(repo_folder / "commits");
  write_file_atomically(repo_folder / "trees" / (stored.id.hex() + ".json"), tree_to_json(stored));
  const Commit commit{
      id, stored.id, parents, request.author, now, request.title, request.description};
  write_file_atomically(repo_folder / "commits" / (id.str() + ".json"), commit_to_json(commit));
  return id;
}

void check_branch_name(const std::string& name) {
  const auto fail = [&](const char* why) {
    throw server_errors::bad_request("branch name '" + name + "' " + why);
  };
  if (name.empty() || name.size() > 255) fail("must have 1 to 255 bytes");
  if (name.rfind("refs/", 0) == 0 || CommitHash::is_commit(name)) fail("is reserved");
  std::size_t begin = 0;
  while (begin <= name.size()) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool is_lock = part.size() >= 5 && part.compare(part.size() - 5, 5, ".lock") == 0;
    if (part.empty() || part.front() == '.' || part.back() == '.' || is_lock) {
      fail("has an empty part, one that begins or ends with '.', or one ending in .lock");
    }
    begin = end + 1;
  }
  const bool has_bad_byte = std::any_of(name.begin(), name.end(), [](unsigned char c) {
    return c <= 0x20 || c >= 0x7f ||
           std::string_view("~^:?*[\\").find(static_cast<char>(c)) != std::string_view::npos;
  });
  if (has_bad_byte || name.find("..") != std::string::npos ||
      name.find("@{") != std::string::npos || name == "@" || name.front() == '-') {
    fail("has a character git refuses");
  }
}

}  // namespace kernelhub::server
