// SPDX-License-Identifier: Apache-2.0
#include "server_errors.h"

#include "error_reply.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace kernelhub::server::server_errors {
namespace {

std::string display(const RepoKey& repo) {
  return fmt::format("{} repository {}", names_of(repo.type).word, repo.id.str());
}

Error failure(ErrorCode code, const std::string& what, const ErrorReply& reply = {}) {
  return Error(code, what, {}, to_details(reply));
}

}  // namespace

Error bad_request(const std::string& what) { return failure(ErrorCode::kBadRequest, what); }

Error body_too_large(std::uint64_t max_bytes) {
  return failure(ErrorCode::kBadRequest,
                 fmt::format("request body is larger than {} bytes", max_bytes), {.status = 413});
}

Error too_many_items(std::string_view what, std::size_t found, std::size_t most) {
  return failure(ErrorCode::kBadRequest,
                 fmt::format("{} {} in one request, at most {} are taken", found, what, most),
                 {.status = 413});
}

Error unknown_route(std::string_view path) {
  return failure(ErrorCode::kEntryNotFound, fmt::format("no route at {}", path),
                 {.error_code = "RouteNotFound"});
}

Error method_not_allowed(std::string_view method, std::string_view path) {
  return failure(ErrorCode::kBadRequest, fmt::format("method {} is not served at {}", method, path),
                 {.status = 405, .error_code = "MethodNotAllowed"});
}

Error bad_framing(const std::string& what) {
  return failure(ErrorCode::kBadRequest, what, {.error_code = "BadFraming"});
}

Error repo_not_found(const RepoKey& repo, bool anonymous) {
  return failure(ErrorCode::kRepoNotFound,
                 fmt::format("{} not found, or the token does not reach it", display(repo)),
                 {.status = anonymous ? 401 : 404});
}

Error namespace_not_found(std::string_view name) {
  return failure(ErrorCode::kEntryNotFound, fmt::format("{} is not known here", name),
                 {.error_code = "NamespaceNotFound"});
}

Error revision_not_found(const RepoKey& repo, std::string_view revision) {
  return failure(ErrorCode::kRevisionNotFound,
                 fmt::format("{} has no revision {}", display(repo), revision));
}

Error entry_not_found(const RepoKey& repo, const CommitHash& commit, std::string_view path) {
  return failure(ErrorCode::kEntryNotFound,
                 fmt::format("{} has no {} at {}", display(repo), path, commit.str()),
                 {.headers = {{"X-Repo-Commit", commit.str()}}});
}

Error file_to_delete_missing(const RepoKey& repo, const CommitHash& commit, std::string_view path) {
  // Clients look for this sentence (hub spec 3, commit rules).
  return failure(ErrorCode::kEntryNotFound,
                 fmt::format("A file with this name doesn't exist: {} in {} at {}", path,
                             display(repo), commit.str()));
}

Error repo_exists(const RepoKey& repo, const std::string& repo_url) {
  return failure(ErrorCode::kConflict, fmt::format("{} exists already", display(repo)),
                 {.fields = {{"url", repo_url}}});
}

Error branch_exists(const RepoKey& repo, std::string_view branch) {
  return failure(ErrorCode::kConflict,
                 fmt::format("{} has a branch {} already", display(repo), branch));
}

Error branch_name_conflict(const RepoKey& repo, std::string_view branch) {
  return failure(ErrorCode::kConflict,
                 fmt::format("{}: branch {} and an existing one cannot be folder and file of the "
                             "same name",
                             display(repo), branch));
}

Error main_not_deletable(const RepoKey& repo) {
  return failure(ErrorCode::kForbidden,
                 fmt::format("branch main of {} cannot be deleted", display(repo)));
}

Error head_moved(const RepoKey& repo, std::string_view branch, const CommitHash& head,
                 std::string_view parent) {
  return failure(ErrorCode::kPreconditionFailed,
                 fmt::format("{}@{} is at {}, not at the parent commit {}: read it again and retry",
                             display(repo), branch, head.str(), parent));
}

Error not_a_branch(const RepoKey& repo, std::string_view revision) {
  return bad_request(fmt::format("{} of {} is not a branch", revision, display(repo)));
}

Error path_conflict(std::string_view path) {
  return bad_request(fmt::format("{} would be both a file and a folder", path));
}

Error object_missing(std::string_view path, const Digest& sha256) {
  return bad_request(
      fmt::format("lfs object {} of {} was not uploaded: upload it first", sha256.hex(), path));
}

Error object_mismatch(const Digest& wanted, std::uint64_t wanted_bytes, const Digest& found,
                      std::uint64_t found_bytes) {
  return bad_request(
      fmt::format("uploaded object has sha256 {} and {} bytes, announced were {} "
                  "and {} bytes",
                  found.hex(), found_bytes, wanted.hex(), wanted_bytes));
}

Error upload_slot_unknown() {
  return failure(ErrorCode::kEntryNotFound, "upload link is unknown, used or expired",
                 {.error_code = "UploadLinkNotFound"});
}

Error token_required(std::string_view action) {
  return failure(ErrorCode::kAuthRequired, fmt::format("{} needs a token", action));
}

Error token_invalid() {
  // Clients compare this text exactly (hub spec 2.2).
  return failure(ErrorCode::kAuthInvalid, "Invalid credentials in Authorization header");
}

Error token_lacks_scope(std::string_view role, std::string_view ns) {
  return failure(ErrorCode::kForbidden,
                 fmt::format("the token has no {} access to namespace {}", role, ns));
}

Error too_many_bad_tokens(int retry_after_seconds) {
  return failure(ErrorCode::kRateLimited, "too many invalid tokens from this address",
                 {.headers = {{"Retry-After", std::to_string(retry_after_seconds)}}});
}

Error store_corrupt(const std::filesystem::path& path, std::string_view what) {
  return Error(ErrorCode::kStoreCorrupt, fmt::format("store file {}: {}", path.string(), what),
               "restore the file from a backup or publish the repository again");
}

Error io_failed(std::string_view action, const std::filesystem::path& path, int error_number) {
  const ErrorCode code = error_number == ENOSPC || error_number == EDQUOT ? ErrorCode::kDiskFull
                         : error_number == EROFS                          ? ErrorCode::kReadOnly
                                                                          : ErrorCode::kIo;
  return Error(code,
               fmt::format("cannot {} {}: {}", action, path.string(), std::strerror(error_number)));
}

Error start_failed(std::string_view address, std::string_view why) {
  return Error(ErrorCode::kServerStart, fmt::format("cannot serve on {}: {}", address, why));
}

}  // namespace kernelhub::server::server_errors
