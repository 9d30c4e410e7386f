// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "repo_types.h"

#include "kernelhub/core/digest.h"
#include "kernelhub/core/error.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

/// Every text of this module. Request failures carry what the answer needs beyond the code (HTTP
/// status, headers, body fields) in details(); error_reply.h renders them.
namespace kernelhub::server::server_errors {

Error bad_request(const std::string& what);
Error body_too_large(std::uint64_t max_bytes);
Error too_many_items(std::string_view what, std::size_t found, std::size_t most);
Error unknown_route(std::string_view path);
Error method_not_allowed(std::string_view method, std::string_view path);
Error bad_framing(const std::string& what);

/// Anonymous callers get 401, others 404: existence is never revealed.
Error repo_not_found(const RepoKey& repo, bool anonymous);
Error namespace_not_found(std::string_view name);
Error revision_not_found(const RepoKey& repo, std::string_view revision);
Error entry_not_found(const RepoKey& repo, const CommitHash& commit, std::string_view path);
Error file_to_delete_missing(const RepoKey& repo, const CommitHash& commit, std::string_view path);
Error repo_exists(const RepoKey& repo, const std::string& repo_url);
Error branch_exists(const RepoKey& repo, std::string_view branch);
Error branch_name_conflict(const RepoKey& repo, std::string_view branch);
Error main_not_deletable(const RepoKey& repo);
Error head_moved(const RepoKey& repo, std::string_view branch, const CommitHash& head,
                 std::string_view parent);
Error not_a_branch(const RepoKey& repo, std::string_view revision);
Error path_conflict(std::string_view path);
Error object_missing(std::string_view path, const Digest& sha256);
Error object_mismatch(const Digest& wanted, std::uint64_t wanted_bytes, const Digest& found,
                      std::uint64_t found_bytes);
Error upload_slot_unknown();

Error token_required(std::string_view action);
Error token_invalid();
Error token_lacks_scope(std::string_view role, std::string_view ns);
Error too_many_bad_tokens(int retry_after_seconds);

Error store_corrupt(const std::filesystem::path& path, std::string_view what);
Error io_failed(std::string_view action, const std::filesystem::path& path, int error_number);
Error start_failed(std::string_view address, std::string_view why);

}  // namespace kernelhub::server::server_errors
