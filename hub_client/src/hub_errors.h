// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "http_transport.h"
#include "retry_policy.h"

#include "kernelhub/core/error.h"
#include "kernelhub/core/repo.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace kernelhub::hub {

/// What a call is about, for its error.
struct CallSubject {
  std::string what;      // "refs", "listing", "file", "commit"
  std::string repo;      // empty for calls without one
  std::string revision;  // empty when the call has none
  std::string path;      // in the repository
};

/// How a failed call went.
struct CallFacts {
  std::string url;  // of the last hop, with its query
  int attempts = 1;
  std::string request_id;    // the reply's X-Request-Id, else our trace id
  std::string token_origin;  // where the sent token came from; empty: none was sent
  std::string proxy;         // in use for this URL's scheme; empty: none
  std::optional<RateLimit> rate_limit;
};

/// All error texts of the module. Codes by hub spec 2.2 and 8.
namespace hub_errors {

/// Status and X-Error-Code, or the transfer's fault, as an error.
HubError failed_call(const CallSubject& subject, const CallFacts& facts, const HttpResponse& reply);
HubError bad_endpoint(const std::string& endpoint);
HubError redirect_refused(const std::vector<std::string>& hops, const std::string& location,
                          const std::string& reason);
HubError not_a_hub(const std::string& url, const std::string& reason);
HubError version_not_found(const RepoId& repo, std::int64_t version,
                           const std::vector<std::int64_t>& versions);
HubError branch_not_found(const std::string& repo, const std::string& branch);
HubError no_kernel_builds(const RepoId& repo, const CommitHash& commit);
HubError entry_not_found(const RepoId& repo, const CommitHash& commit, std::string_view path);
HubError unsafe_listing(const std::string& origin, const std::string& path,
                        const std::string& reason);
HubError listing_too_long(const std::string& origin, std::size_t limit, std::string_view unit);
HubError wrong_size(const CallSubject& subject, const std::string& url, std::uint64_t listed,
                    std::uint64_t received);
HubError wrong_hash(const CallSubject& subject, const std::string& url, const std::string& listed,
                    const std::string& received);
HubError file_too_large(const CallSubject& subject, std::uint64_t size, std::uint64_t limit);
HubError offline_ref(const RepoId& repo, const std::string& revision,
                     const std::filesystem::path& ref);
HubError offline_versions(const RepoId& repo, const std::filesystem::path& repo_dir);
HubError offline_listing(const RepoId& repo, const CommitHash& commit, std::string_view path);
HubError offline_files(const RepoId& repo, const CommitHash& commit,
                       const std::vector<std::string>& missing);
HubError offline_call(const CallSubject& subject, const std::string& url);
HubError cache_corrupt(const std::filesystem::path& path, const std::string& found,
                       const std::string& wanted);
HubError cache_read_only(const std::filesystem::path& directory, const std::string& reason);
HubError disk_full(const std::filesystem::path& directory, std::uint64_t need, std::uint64_t have);
HubError cache_io(const std::string& action, const std::filesystem::path& path, int error_number);
HubError cancelled(const CallSubject& subject);
HubError transport_setup(const std::string& what);
HubError token_needed(const CallSubject& subject);
HubError source_changed(const std::filesystem::path& source, std::uint64_t planned,
                        std::uint64_t found);
HubError upload_refused(const std::string& repo, const std::string& path,
                        const std::string& reason);
HubError head_moved(const std::string& repo, const std::string& branch, int attempts);
HubError ambiguous_commit(const std::string& repo, const std::string& branch,
                          const std::string& reason);

}  // namespace hub_errors
}  // namespace kernelhub::hub
