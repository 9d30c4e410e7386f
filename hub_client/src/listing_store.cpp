// SPDX-License-Identifier: Apache-2.0
#include "listing_store.h"

#include "hub_errors.h"

#include "kernelhub/core/atomic_file.h"

namespace kernelhub::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxListingBytes = 64u << 20;

std::optional<std::string> content_of(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error) || fs::file_size(path, error) > kMaxListingBytes) {
    return std::nullopt;
  }
  return read_file(path, kMaxListingBytes);
}

}  // namespace

ListingStore::Known& ListingStore::known(const RepoId& repo, const CommitHash& commit) {
  const auto [entry, is_new] = known_.try_emplace({repo.str(), commit.str()});
  Known& known = entry->second;
  if (!is_new) return known;
  const fs::path sidecar = cache_.sidecar(repo, commit);
  if (const auto bytes = content_of(sidecar)) {
    const auto listing = parse_sidecar(*bytes, sidecar.string(), repo, commit);
    known.damaged = known.unsaved = !listing;
    if (listing) known.listing = *listing;
  }
  const fs::path python_tree = cache_.python_tree(repo, commit);
  if (const auto bytes = content_of(python_tree)) {
    if (const auto listing = parse_python_tree(*bytes, python_tree.string())) {
      known.listing.merge(*listing);
    }
  }
  return known;
}

std::optional<Tree> ListingStore::folder(const RepoId& repo, const CommitHash& commit,
                                         std::string_view folder) {
  const std::lock_guard lock(mutex_);
  return known(repo, commit).listing.folder(folder);
}

std::optional<Tree> ListingStore::recursive(const RepoId& repo, const CommitHash& commit,
                                            std::string_view folder) {
  const std::lock_guard lock(mutex_);
  return known(repo, commit).listing.recursive(folder);
}

void ListingStore::add_folder(const RepoId& repo, const CommitHash& commit,
                              const std::string& folder, const Tree& tree) {
  const std::lock_guard lock(mutex_);
  Known& entry = known(repo, commit);
  if (entry.listing.add_folder(folder, tree)) entry.unsaved = true;
}

void ListingStore::add_recursive(const RepoId& repo, const CommitHash& commit,
                                 const std::string& folder, const Tree& tree) {
  const std::lock_guard lock(mutex_);
  Known& entry = known(repo, commit);
  if (entry.listing.add_recursive(folder, tree)) entry.unsaved = true;
}

std::optional<fs::path> ListingStore::damaged_sidecar(const RepoId& repo,
                                                      const CommitHash& commit) {
  const std::lock_guard lock(mutex_);
  if (!known(repo, commit).damaged) return std::nullopt;
  return cache_.sidecar(repo, commit);
}

void ListingStore::persist(const RepoId& repo, const CommitHash& commit) {
  const std::lock_guard lock(mutex_);
  Known& entry = known(repo, commit);
  if (!entry.unsaved) return;
  const fs::path sidecar = cache_.sidecar(repo, commit);
  // Another process may have listed other variants meanwhile.
  if (const auto bytes = content_of(sidecar)) {
    if (const auto listing = parse_sidecar(*bytes, sidecar.string(), repo, commit)) {
      entry.listing.merge(*listing);
    }
  }
  std::error_code error;
  fs::create_directories(sidecar.parent_path(), error);
  if (error) throw hub_errors::cache_io("create", sidecar.parent_path(), error.value());
  write_file_atomically(sidecar, sidecar_to_json(repo, commit, entry.listing), shared_file_mode());
  entry.unsaved = entry.damaged = false;
}

}  // namespace kernelhub::hub
