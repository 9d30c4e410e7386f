// SPDX-License-Identifier: Apache-2.0
#include "cache_layout.h"

#include "hub_errors.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/log.h"
#include "kernelhub/core/safe_path.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace kernelhub::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kCacheTag =
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# Cache directory of Hub clients; see https://bford.info/cachedir/\n";

std::string folder_name(std::string_view prefix, const RepoId& repo) {
  std::string name(prefix);
  for (const char c : repo.str()) name += c == '/' ? std::string("--") : std::string(1, c);
  return name;
}

void make_directories(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw hub_errors::cache_io("create", path, error.value());
}

void check_writable(const fs::path& directory) {
  if (access(directory.c_str(), W_OK | X_OK) != 0) {
    throw hub_errors::cache_read_only(directory, std::generic_category().message(errno));
  }
}

std::vector<std::int64_t> versions_in(const fs::path& refs) {
  std::vector<std::int64_t> versions;
  std::error_code error;
  for (fs::directory_iterator entry(refs, error), end; !error && entry != end;
       entry.increment(error)) {
    const auto version = version_of_branch(entry->path().filename().string());
    if (version && entry->is_regular_file(error)) versions.push_back(*version);
  }
  std::sort(versions.begin(), versions.end());
  return versions;
}

// Among the blobs and not beside the pointer: a variant must hold nothing that is not listed, not
// even after a kill. The name belongs to this process and call alone.
fs::path temp_beside(const fs::path& blob, std::string_view purpose) {
  static std::atomic<unsigned> counter{0};
  fs::path temp =
      fmt::format("{}.{}-{}.{}.incomplete", blob.string(), getpid(), ++counter, purpose);
  unlink(temp.c_str());
  return temp;
}

// A damaged entry may be anything; links are removed, not followed.
void remove_entry(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) throw hub_errors::cache_io("remove", path, error.value());
}

}  // namespace

fs::path CacheLayout::repo_dir(const RepoId& repo) const {
  return root_ / folder_name("kernels--", repo);
}

fs::path CacheLayout::blobs_dir(const RepoId& repo) const { return repo_dir(repo) / "blobs"; }

fs::path CacheLayout::locks_dir(const RepoId& repo) const {
  return root_ / ".locks" / folder_name("kernels--", repo);
}

fs::path CacheLayout::blob(const RepoId& repo, std::string_view etag) const {
  return blobs_dir(repo) / etag;
}

fs::path CacheLayout::lock(const RepoId& repo, std::string_view etag) const {
  return locks_dir(repo) / fmt::format("{}.lock", etag);
}

fs::path CacheLayout::snapshot(const RepoId& repo, const CommitHash& commit) const {
  return repo_dir(repo) / "snapshots" / commit.str();
}

fs::path CacheLayout::ref(const RepoId& repo, std::string_view name) const {
  return repo_dir(repo) / "refs" / SafeRelPath::parse(name, "revision of " + repo.str()).str();
}

fs::path CacheLayout::sidecar(const RepoId& repo, const CommitHash& commit) const {
  return repo_dir(repo) / ".kernelhub" / (commit.str() + ".json");
}

fs::path CacheLayout::python_tree(const RepoId& repo, const CommitHash& commit) const {
  return repo_dir(repo) / "trees" / (commit.str() + ".json");
}

std::optional<CommitHash> CacheLayout::read_ref(const RepoId& repo, std::string_view name) const {
  if (!SafeRelPath::is_safe(name)) return std::nullopt;
  const fs::path path = ref(repo, name);
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return std::nullopt;
  std::string text = read_file(path, 4096);
  text.erase(std::remove_if(text.begin(), text.end(),
                            [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }),
             text.end());
  if (!CommitHash::is_commit(text)) {
    throw hub_errors::cache_corrupt(path, fmt::format("\"{}\"", text.substr(0, 64)),
                                    "a commit of 40 hex digits");
  }
  return CommitHash::parse(text);
}

void CacheLayout::write_ref(const RepoId& repo, std::string_view name,
                            const CommitHash& commit) const {
  const fs::path path = ref(repo, name);
  std::error_code error;
  if (fs::is_regular_file(path, error) && read_file(path, 4096) == commit.str()) return;
  make_directories(path.parent_path());
  write_file_atomically(path, commit.str(), shared_file_mode());
}

std::vector<std::int64_t> CacheLayout::cached_versions(const RepoId& repo) const {
  std::vector<std::int64_t> versions = versions_in(repo_dir(repo) / "refs");
  if (versions.empty()) versions = versions_in(root_ / folder_name("models--", repo) / "refs");
  return versions;
}

FileState CacheLayout::inspect(const fs::path& path, std::uint64_t size_bytes) {
  std::error_code error;
  const fs::file_status entry = fs::symlink_status(path, error);
  if (entry.type() == fs::file_type::not_found) return FileState::kAbsent;
  struct stat target {};
  if (stat(path.c_str(), &target) != 0 || !S_ISREG(target.st_mode) ||
      static_cast<std::uint64_t>(target.st_size) != size_bytes) {
    return FileState::kDamaged;
  }
  return FileState::kPresent;
}

std::string CacheLayout::describe(const fs::path& path) {
  struct stat target {};
  if (stat(path.c_str(), &target) != 0) return "a dangling link";
  if (S_ISDIR(target.st_mode)) return "a directory";
  if (!S_ISREG(target.st_mode)) return "no regular file";
  return fmt::format("{} bytes", target.st_size);
}

void CacheLayout::prepare_for_writing(const RepoId& repo) const {
  for (const fs::path& directory :
       {blobs_dir(repo), repo_dir(repo) / "snapshots", locks_dir(repo)}) {
    make_directories(directory);
    check_writable(directory);
  }
  const fs::path tag = root_ / "CACHEDIR.TAG";
  std::error_code error;
  if (!fs::exists(tag, error)) write_file_atomically(tag, kCacheTag, shared_file_mode());
}

void CacheLayout::check_space(std::uint64_t need_bytes) const {
  struct statvfs space {};
  if (statvfs(root_.c_str(), &space) != 0) throw hub_errors::cache_io("inspect", root_, errno);
  const std::uint64_t have = static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
  if (have < need_bytes) throw hub_errors::disk_full(root_, need_bytes, have);
}

void CacheLayout::prepare_pointer(const RepoId& repo, const CommitHash& commit,
                                  const fs::path& pointer) const {
  const fs::path parent = pointer.parent_path();
  make_directories(parent);
  const fs::path base = snapshot(repo, commit);
  std::error_code error;
  const fs::path real_parent = fs::canonical(parent, error);
  const fs::path wanted =
      (fs::canonical(base) / parent.lexically_relative(base)).lexically_normal();
  // A link among the parents would put the file outside of its snapshot.
  if (error || (real_parent != wanted && real_parent / "" != wanted)) {
    throw hub_errors::cache_corrupt(parent, "a link to " + real_parent.string(), "a directory");
  }
}

bool CacheLayout::link_pointer(const fs::path& pointer, const fs::path& blob) {
  const fs::path target = blob.lexically_relative(pointer.parent_path());
  std::error_code error;
  if (fs::is_symlink(pointer, error) && fs::read_symlink(pointer, error) == target) return true;
  const fs::path temp = temp_beside(blob, "link");
  if (symlink(target.c_str(), temp.c_str()) != 0) {
    if (errno == EPERM || errno == ENOTSUP || errno == ENOSYS) return false;
    throw hub_errors::cache_io("link", pointer, errno);
  }
  if (fs::is_directory(fs::symlink_status(pointer, error))) remove_entry(pointer);
  if (rename(temp.c_str(), pointer.c_str()) != 0) {
    const int failure = errno;
    unlink(temp.c_str());
    throw hub_errors::cache_io("link", pointer, failure);
  }
  return true;
}

void CacheLayout::copy_pointer(const fs::path& pointer, const fs::path& blob) {
  const fs::path temp = temp_beside(blob, "copy");
  std::error_code error;
  fs::copy_file(blob, temp, fs::copy_options::overwrite_existing, error);
  if (error) throw hub_errors::cache_io("copy to", temp, error.value());
  if (fs::is_directory(fs::symlink_status(pointer, error))) remove_entry(pointer);
  fs::rename(temp, pointer, error);
  if (error) {
    unlink(temp.c_str());
    throw hub_errors::cache_io("copy to", pointer, error.value());
  }
}

unsigned shared_file_mode() {
  static const unsigned mode = [] {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("Umask:")) {
        return 0666U & ~static_cast<unsigned>(std::stoul(line.substr(6), nullptr, 8));
      }
    }
    return 0644U;
  }();
  return mode;
}

}  // namespace kernelhub::hub
