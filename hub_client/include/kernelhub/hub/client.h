// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/config.h"
#include "kernelhub/core/digest.h"
#include "kernelhub/core/export.h"
#include "kernelhub/core/progress.h"
#include "kernelhub/core/repo.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Client of the Hugging Face Hub protocol (hub spec 1-6) for repositories of type `kernel`.
namespace kernelhub::hub {

/// One file of a listing.
struct TreeFile {
  std::string path;  // from the repository root, checked as SafeRelPath
  std::uint64_t size_bytes = 0;
  std::string git_oid;     // sha1 of the blob (of the pointer for LFS files)
  std::string lfs_sha256;  // empty: not LFS
  /// Name of the blob in the cache: lfs_sha256, else git_oid.
  const std::string& etag() const noexcept { return lfs_sha256.empty() ? git_oid : lfs_sha256; }
};

struct Tree {
  std::vector<TreeFile> files;
  std::vector<std::string> directories;
};

struct Branch {
  std::string name;
  CommitHash commit;
};

/// Answer about a namespace. `trusted` is the Hub's trustedKernelPublisher flag; `error` is set
/// when it could not be asked (unknown organisation, network), and then `trusted` is false.
struct Publisher {
  bool trusted = false;
  std::string error;
  bool is_silent = false;  // unreachable, timed out or out of order: it neither vouches nor denies
};

struct ResolvedKernel {
  PinnedKernel pinned;
  bool from_cache = false;   // the hub was not reachable or not asked
  std::string cache_reason;  // why, for the warning; empty when asked by commit or offline
  std::vector<std::int64_t> versions;  // ascending, when refs were read
};

/// Door to the network and the clock; tests put another one in.
class HttpTransport;
struct ClientState;

/// Plans the fewest requests (hub spec 6): a cold `get_kernel` of n files takes n + 4, a warm one 1
/// by version and 0 by commit.
/// Thread-safe; one connection pool and one network thread per client, started by the first
/// request; a forked child needs a client of its own. Methods block and touch the network and the
/// disk cache, unless stated. All throw HubError: not found, auth, network, integrity, offline and
/// cache codes of error.h. Retries and redirects follow hub spec 6 and 1.2.
class KERNELHUB_API Client {
 public:
  explicit Client(Config config);
  /// With another transport, for tests.
  Client(Config config, std::shared_ptr<HttpTransport> transport);
  ~Client();
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  const Config& config() const noexcept;

  /// refs -> commit for a version or branch; a full commit needs no request. Offline or
  /// unreachable: the cached ref. Writes refs/v<N> after success is known (`remember_ref`).
  /// kVersionNotFound lists the versions there are.
  ResolvedKernel resolve(const RepoId& repo, const KernelSpec& spec);
  /// All branches (one request).
  std::vector<Branch> list_branches(const RepoId& repo);
  /// Versions = branches `v<int>`, ascending; offline from cached refs.
  std::vector<std::int64_t> list_versions(const RepoId& repo);
  /// One folder at a commit, not recursive; kEntryNotFound when absent. From the sidecar of the
  /// cache (no request) when that folder was listed before.
  Tree list_directory(const RepoId& repo, const CommitHash& commit, std::string_view path);
  /// Everything below `path` (empty: the whole repository), all pages.
  Tree list_recursive(const RepoId& repo, const CommitHash& commit, std::string_view path);
  /// Names of the folders below build/ at a commit. kNoKernelBuilds when there is no build/.
  std::vector<std::string> list_variants(const RepoId& repo, const CommitHash& commit);
  /// trustedKernelPublisher of a namespace. Never throws for a failing request: see Publisher.
  /// `once`: without retries, because the caller can do without the answer.
  Publisher publisher(std::string_view ns, bool once = false);
  /// One small file's bytes, verified against the listing, through the cache.
  std::string read_file(const RepoId& repo, const CommitHash& commit, const TreeFile& file,
                        std::uint64_t max_bytes);
  /// A file on a branch or commit straight from `resolve`, not cached; nothing when it is absent.
  std::optional<std::string> read_file_at(const RepoId& repo, std::string_view revision,
                                          std::string_view path, std::uint64_t max_bytes);
  /// Requests sent since construction, for tests and `--verbose`.
  std::uint64_t request_count() const noexcept;

 private:
  friend class SnapshotFetcher;
  friend class Uploader;
  std::unique_ptr<ClientState> state_;
};

}  // namespace kernelhub::hub
