// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/hub/snapshot.h"

#include "client_state.h"
#include "download_queue.h"
#include "hub_errors.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

namespace kernelhub::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBytecodeFolder = "__pycache__/";

bool is_bytecode(std::string_view path) {
  return path.ends_with(".pyc") || path.starts_with(kBytecodeFolder) ||
         path.find("/__pycache__/") != std::string_view::npos;
}

std::string variant_folder(const std::string& variant) { return "build/" + variant; }

// A full cache may lie on a file system that cannot be written: nothing is lost then.
template <class Write>
void write_if_possible(Write&& write) {
  try {
    write();
  } catch (const Error& error) {
    const ErrorCode code = error.code();
    if (code != ErrorCode::kReadOnly && code != ErrorCode::kCacheReadOnly &&
        code != ErrorCode::kDiskFull && code != ErrorCode::kIo) {
      throw;
    }
    log(LogLevel::kDebug, fmt::format("cache bookkeeping left out: {}", error.what()));
  }
}

}  // namespace

/// Brings files of one commit to disk; the only code that combines blobs, links and listings.
class SnapshotFetcher {
 public:
  SnapshotFetcher(Client& client, const PinnedKernel& pinned)
      : state_(*client.state_), repo_(pinned.repo), commit_(pinned.commit) {}

  std::vector<TreeFile> list(Client& client, const std::string& variant) const;
  /// False when nothing had to be fetched or linked.
  bool fetch(const std::vector<TreeFile>& files, const std::string& what,
             ProgressObserver* progress);
  Snapshot describe(const std::string& variant, const std::vector<TreeFile>& files) const;
  std::optional<Snapshot> find(const std::string& variant) const;
  fs::path pointer(const TreeFile& file) const {
    return state_.cache.snapshot(repo_, commit_) / file.path;
  }
  void save_listing() {
    write_if_possible([this] { state_.listings.persist(repo_, commit_); });
  }
  void save_ref(const std::string& name) {
    write_if_possible([&] { state_.cache.write_ref(repo_, name, commit_); });
  }

 private:
  bool is_missing(const TreeFile& file) const {
    return CacheLayout::inspect(pointer(file), file.size_bytes) != FileState::kPresent;
  }
  bool uses_links() const { return !state_.session.config().disable_symlinks; }
  [[noreturn]] void refuse_offline(const std::vector<TreeFile>& missing) const;
  std::vector<BlobJob> plan(const std::vector<TreeFile>& missing) const;
  void place(const TreeFile& file) const;

  ClientState& state_;
  const RepoId repo_;
  const CommitHash commit_;
};

std::vector<TreeFile> SnapshotFetcher::list(Client& client, const std::string& variant) const {
  std::vector<TreeFile> files =
      client.list_recursive(repo_, commit_, variant_folder(variant)).files;
  std::erase_if(files, [](const TreeFile& file) { return is_bytecode(file.path); });
  return files;
}

void SnapshotFetcher::refuse_offline(const std::vector<TreeFile>& missing) const {
  std::vector<std::string> paths;
  for (const TreeFile& file : missing) {
    const fs::path path = pointer(file);
    if (CacheLayout::inspect(path, file.size_bytes) == FileState::kDamaged) {
      throw hub_errors::cache_corrupt(path, CacheLayout::describe(path),
                                      fmt::format("a file of {} bytes", file.size_bytes));
    }
    paths.push_back(file.path);
  }
  throw hub_errors::offline_files(repo_, commit_, paths);
}

std::vector<BlobJob> SnapshotFetcher::plan(const std::vector<TreeFile>& missing) const {
  std::vector<BlobJob> jobs;
  for (const TreeFile& file : missing) {
    const fs::path blob = state_.cache.blob(repo_, file.etag());
    if (CacheLayout::inspect(blob, file.size_bytes) == FileState::kPresent) continue;
    jobs.push_back({repo_, commit_, file, uses_links() ? blob : pointer(file)});
  }
  return jobs;
}

void SnapshotFetcher::place(const TreeFile& file) const {
  const fs::path path = pointer(file);
  const fs::path blob = state_.cache.blob(repo_, file.etag());
  if (uses_links()) {
    if (CacheLayout::link_pointer(path, blob)) return;
    CacheLayout::copy_pointer(path, blob);
  } else if (is_missing(file)) {
    CacheLayout::copy_pointer(path, blob);
  }
}

bool SnapshotFetcher::fetch(const std::vector<TreeFile>& files, const std::string& what,
                            ProgressObserver* progress) {
  std::vector<TreeFile> missing;
  std::copy_if(files.begin(), files.end(), std::back_inserter(missing),
               [this](const TreeFile& file) { return is_missing(file); });
  if (missing.empty()) return false;
  if (state_.session.config().offline) refuse_offline(missing);
  state_.cache.prepare_for_writing(repo_);
  const std::vector<BlobJob> jobs = plan(missing);
  std::uint64_t need_bytes = 0;
  for (const BlobJob& job : jobs) need_bytes += job.file.size_bytes;
  state_.cache.check_space(need_bytes);
  for (const TreeFile& file : missing) {
    state_.cache.prepare_pointer(repo_, commit_, pointer(file));
  }
  if (!jobs.empty()) run_downloads(state_.session, state_.cache, jobs, what, progress);
  for (const TreeFile& file : missing) place(file);
  return true;
}

Snapshot SnapshotFetcher::describe(const std::string& variant,
                                   const std::vector<TreeFile>& files) const {
  Snapshot snapshot;
  snapshot.directory = state_.cache.snapshot(repo_, commit_) / variant_folder(variant);
  // Not the repository's own folder: Python may keep payloads in a store beside it.
  snapshot.blob_root = state_.cache.root();
  snapshot.files = files;
  return snapshot;
}

std::optional<Snapshot> SnapshotFetcher::find(const std::string& variant) const {
  const auto listed = state_.listings.recursive(repo_, commit_, variant_folder(variant));
  if (!listed || listed->files.empty()) return std::nullopt;
  std::vector<TreeFile> files = listed->files;
  std::erase_if(files, [](const TreeFile& file) { return is_bytecode(file.path); });
  const bool complete = std::none_of(files.begin(), files.end(),
                                     [this](const TreeFile& file) { return is_missing(file); });
  if (!complete) return std::nullopt;
  Snapshot snapshot = describe(variant, files);
  snapshot.from_cache = true;
  return snapshot;
}

std::vector<TreeFile> list_variant_files(Client& client, const PinnedKernel& pinned,
                                         const std::string& variant) {
  return SnapshotFetcher(client, pinned).list(client, variant);
}

Snapshot fetch_snapshot(Client& client, const PinnedKernel& pinned, const std::string& variant,
                        const std::vector<TreeFile>& files, ProgressObserver* progress) {
  SnapshotFetcher fetcher(client, pinned);
  const bool fetched = fetcher.fetch(files, pinned.repo.str() + "/" + variant, progress);
  fetcher.save_listing();
  if (pinned.version) fetcher.save_ref(fmt::format("v{}", *pinned.version));
  Snapshot snapshot = fetcher.describe(variant, files);
  snapshot.from_cache = !fetched;
  return snapshot;
}

void remember_ref(Client& client, const RepoId& repo, const std::string& name,
                  const CommitHash& commit) {
  SnapshotFetcher(client, {repo, commit, std::nullopt}).save_ref(name);
}

std::optional<Snapshot> find_cached_variant(Client& client, const PinnedKernel& pinned,
                                            const std::string& variant) {
  return SnapshotFetcher(client, pinned).find(variant);
}

std::string Client::read_file(const RepoId& repo, const CommitHash& commit, const TreeFile& file,
                              std::uint64_t max_bytes) {
  if (file.size_bytes > max_bytes) {
    throw hub_errors::file_too_large({"file", repo.str(), commit.str(), file.path}, file.size_bytes,
                                     max_bytes);
  }
  SnapshotFetcher fetcher(*this, {repo, commit, std::nullopt});
  fetcher.fetch({file}, file.path, nullptr);
  return kernelhub::read_file(fetcher.pointer(file), max_bytes);
}

}  // namespace kernelhub::hub
