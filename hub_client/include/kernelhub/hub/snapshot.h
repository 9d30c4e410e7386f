// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/hub/client.h"

#include <filesystem>
#include <string>
#include <vector>

namespace kernelhub::hub {

/// Files of one variant on disk, in the shared Hugging Face cache.
struct Snapshot {
  std::filesystem::path directory;  // <cache>/kernels--ns--name/snapshots/<commit>/build/<variant>
  std::filesystem::path blob_root;  // folder that links inside may point into
  std::vector<TreeFile> files;      // listing of the variant, paths from the repository root
  bool from_cache = false;          // nothing had to be fetched
};

/// Listing of build/<variant> at a commit without bytecode (`*.pyc`, `__pycache__`), from the
/// sidecar when it is there (no request), else one request. kOfflineMiss when offline and unknown.
KERNELHUB_API std::vector<TreeFile> list_variant_files(Client& client, const PinnedKernel& pinned,
                                                       const std::string& variant);

/// Makes every listed file present, hashed while written, blob then link (hub spec 5.2, 6), in
/// parallel; verified and complete on return. `remember_ref`: also write refs/<spec> afterwards.
/// Throws HubError kIntegrity, kDiskFull, kOfflineMiss naming missing files, kCacheReadOnly.
KERNELHUB_API Snapshot fetch_snapshot(Client& client, const PinnedKernel& pinned,
                                      const std::string& variant,
                                      const std::vector<TreeFile>& files,
                                      ProgressObserver* progress = nullptr);

/// refs/<name> = commit in the cache (branch, tag or v<N>), atomically; failures on a read-only
/// cache are ignored.
KERNELHUB_API void remember_ref(Client& client, const RepoId& repo, const std::string& name,
                                const CommitHash& commit);

/// Cached variant without the network: nothing unless every listed file is there with its size.
KERNELHUB_API std::optional<Snapshot> find_cached_variant(Client& client,
                                                          const PinnedKernel& pinned,
                                                          const std::string& variant);

}  // namespace kernelhub::hub
