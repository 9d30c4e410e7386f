// SPDX-License-Identifier: Apache-2.0
#include "hub_errors.h"

#include "hub_json.h"
#include "url_parts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

namespace kernelhub::hub::hub_errors {
namespace {

constexpr std::size_t kShownText = 500;
constexpr std::string_view kCacheHint =
    "set HF_HUB_CACHE or KERNELS_CACHE to a directory you may write";

using Facts = std::vector<std::pair<std::string, std::string>>;

HubError make(ErrorCode code, const std::string& what, const std::string& hint,
              const Facts& facts) {
  return HubError(code, what, hint, facts_to_json(facts));
}

std::string place(const CallSubject& subject) {
  std::string text = subject.what;
  if (!subject.path.empty()) text += " " + subject.path;
  if (!subject.repo.empty()) text += (text.empty() ? "" : " of ") + subject.repo;
  if (!subject.revision.empty()) text += "@" + subject.revision;
  return text;
}

std::string place(const RepoId& repo, const CommitHash& commit) {
  return repo.str() + "@" + commit.str();
}

// Header and body texts come from the other side: one line, bounded, printable.
std::string shown(std::string_view text) {
  std::string line(text.substr(0, kShownText));
  std::replace_if(
      line.begin(), line.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  return line;
}

std::string server_text(const HttpResponse& reply) {
  if (!reply.header("x-error-message").empty()) return shown(reply.header("x-error-message"));
  if (const auto text = parse_error_text(reply.body)) return shown(*text);
  return {};
}

struct Meaning {
  ErrorCode code;
  std::string what;
  std::string hint;
};

std::string token_state(const CallFacts& facts) {
  return facts.token_origin.empty() ? "no token was sent"
                                    : "with the token of " + facts.token_origin;
}

Meaning repo_not_found(const CallSubject& subject, const CallFacts& facts) {
  return {ErrorCode::kRepoNotFound,
          fmt::format("no kernel repository {} ({})", subject.repo, token_state(facts)),
          "check the name; for a private repository set HF_TOKEN to a token that may read it; "
          "repositories of type model are not read"};
}

Meaning rate_limited(const CallSubject& subject, const CallFacts& facts) {
  std::string limit = "without a reset time";
  if (facts.rate_limit) {
    limit = fmt::format("for another {} s", facts.rate_limit->wait.count());
    if (!facts.rate_limit->bucket.empty()) limit += ", bucket " + facts.rate_limit->bucket;
  }
  return {ErrorCode::kRateLimited,
          fmt::format("the server limits requests {}: {}", limit, place(subject)),
          "try again later, or set HF_TOKEN for a higher limit"};
}

std::optional<Meaning> named_by_server(const CallSubject& subject, const CallFacts& facts,
                                       std::string_view name, const std::string& text) {
  if (name == "RepoNotFound") return repo_not_found(subject, facts);
  if (name == "RevisionNotFound") {
    return Meaning{ErrorCode::kRevisionNotFound,
                   fmt::format("{} has no revision {}", subject.repo, subject.revision),
                   "list the versions with `kernelhub versions " + subject.repo + "`"};
  }
  if (name == "EntryNotFound") {
    return Meaning{ErrorCode::kEntryNotFound, "not there: " + place(subject), {}};
  }
  if (name == "GatedRepo") {
    return Meaning{ErrorCode::kGatedRepo,
                   fmt::format("{} is gated ({})", subject.repo, token_state(facts)),
                   "request access on the repository's page and set HF_TOKEN"};
  }
  if (text == "Access to this resource is disabled.") {
    return Meaning{ErrorCode::kRepoDisabled, subject.repo + " is disabled on the hub", {}};
  }
  if (text == "Invalid credentials in Authorization header") {
    return Meaning{ErrorCode::kAuthInvalid,
                   fmt::format("the server refuses the token of {}: {}",
                               facts.token_origin.empty() ? "this request" : facts.token_origin,
                               place(subject)),
                   "replace the token, or remove it to read public repositories"};
  }
  return std::nullopt;
}

Meaning by_status(const CallSubject& subject, const CallFacts& facts, const HttpResponse& reply) {
  const std::string where = place(subject);
  switch (reply.status) {
    case 401:
      return {ErrorCode::kAuthRequired,
              fmt::format("not allowed without a valid token ({}): {}", token_state(facts), where),
              "set HF_TOKEN"};
    case 403:
      return {ErrorCode::kForbidden, fmt::format("forbidden ({}): {}", token_state(facts), where),
              "use a token with the needed scope"};
    case 404:
      return {ErrorCode::kEntryNotFound, "not found: " + where, "check HF_ENDPOINT and the name"};
    case 409:
      return {ErrorCode::kConflict, "exists already or conflicts: " + where, {}};
    case 412:
      return {ErrorCode::kPreconditionFailed, "the branch moved meanwhile: " + where, "try again"};
    case 429:
      return rate_limited(subject, facts);
    default:
      break;
  }
  const ErrorCode code =
      reply.status == 408 || reply.status >= 500 ? ErrorCode::kServerError : ErrorCode::kBadRequest;
  return {code, fmt::format("the server answered {}: {}", reply.status, where),
          code == ErrorCode::kServerError ? "try again later" : ""};
}

std::string host_of(const std::string& url) {
  const auto origin = origin_of(url);
  return origin ? origin->host + ":" + origin->port : url;
}

Meaning by_fault(const CallSubject& subject, const CallFacts& facts, const HttpResponse& reply) {
  const std::string where = place(subject);
  const std::string host = host_of(facts.url);
  switch (reply.fault) {
    case TransferFault::kDns:
      return {ErrorCode::kDnsFailure, fmt::format("cannot resolve {}: {}", host, where),
              "check the network and HF_ENDPOINT, or set HF_HUB_OFFLINE=1 to use the cache"};
    case TransferFault::kProxy:
      return {ErrorCode::kProxyFailure,
              fmt::format("the proxy {} failed ({}): {}", host_of(facts.proxy), reply.fault_text,
                          where),
              "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"};
    case TransferFault::kTls:
      return {
          ErrorCode::kTlsFailure,
          fmt::format("no trusted TLS connection to {} ({}): {}", host, reply.fault_text, where),
          "set SSL_CERT_FILE to the certificates that sign this server"};
    case TransferFault::kTimeout:
      return {ErrorCode::kTimeout,
              fmt::format("{} is silent or too slow ({}): {}", host, reply.fault_text, where),
              "raise HF_HUB_DOWNLOAD_TIMEOUT or HF_HUB_ETAG_TIMEOUT"};
    case TransferFault::kTooLarge:
      return {ErrorCode::kNotAHub,
              fmt::format("{} sent more than this call may answer: {}", host, where),
              "check HF_ENDPOINT"};
    case TransferFault::kCancelled:
      return {ErrorCode::kCancelled, "cancelled: " + where, {}};
    default:
      return {ErrorCode::kNetwork,
              fmt::format("no reply from {} ({}): {}", host, reply.fault_text, where),
              "check the network and HF_ENDPOINT"};
  }
}

}  // namespace

HubError failed_call(const CallSubject& subject, const CallFacts& facts,
                     const HttpResponse& reply) {
  const std::string text = reply.ok() ? server_text(reply) : std::string();
  const std::string name(reply.header("x-error-code"));
  Meaning meaning;
  if (!reply.ok()) {
    meaning = by_fault(subject, facts, reply);
  } else {
    const auto named = named_by_server(subject, facts, name, text);
    meaning = named ? *named : by_status(subject, facts, reply);
  }
  const std::string url = without_query(facts.url);
  std::string what = fmt::format("{} ({}", meaning.what, url);
  if (!text.empty()) what += fmt::format(": \"{}\"", text);
  if (facts.attempts > 1) what += fmt::format(", {} attempts", facts.attempts);
  what += fmt::format(", request {})", facts.request_id);
  return make(meaning.code, what, meaning.hint,
              {{"repo", subject.repo},
               {"revision", subject.revision},
               {"path", subject.path},
               {"url", url},
               {"status", reply.status == 0 ? "" : std::to_string(reply.status)},
               {"error_code", name},
               {"server_text", text},
               {"fault", reply.fault_text},
               {"attempts", std::to_string(facts.attempts)},
               {"request_id", facts.request_id}});
}

HubError bad_endpoint(const std::string& endpoint) {
  return make(ErrorCode::kInvalidConfig,
              fmt::format("the hub endpoint \"{}\" is not an http or https URL", endpoint),
              "set HF_ENDPOINT to something like https://huggingface.co", {{"endpoint", endpoint}});
}

HubError redirect_refused(const std::vector<std::string>& hops, const std::string& location,
                          const std::string& reason) {
  std::vector<std::string> first;
  for (std::size_t i = 0; i < std::min<std::size_t>(hops.size(), 3); ++i) {
    first.push_back(without_query(hops[i]));
  }
  return make(ErrorCode::kRedirectRefused,
              fmt::format("redirect to {} refused: {} (hops: {})", without_query(location), reason,
                          fmt::join(first, " -> ")),
              "check HF_ENDPOINT and proxies in between",
              {{"location", without_query(location)}, {"reason", reason}});
}

HubError not_a_hub(const std::string& url, const std::string& reason) {
  return make(ErrorCode::kNotAHub,
              fmt::format("{} did not answer like a hub: {}", without_query(url), shown(reason)),
              "check HF_ENDPOINT, and whether a login page of the network answers instead",
              {{"url", without_query(url)}});
}

HubError version_not_found(const RepoId& repo, std::int64_t version,
                           const std::vector<std::int64_t>& versions) {
  const std::string there =
      versions.empty() ? "none" : fmt::format("{}", fmt::join(versions, ", "));
  return make(ErrorCode::kVersionNotFound,
              fmt::format("Version {} not found, available versions: {}; repository {}", version,
                          there, repo.str()),
              "list the versions with `kernelhub versions " + repo.str() + "`",
              {{"repo", repo.str()},
               {"version", std::to_string(version)},
               {"versions", fmt::format("{}", fmt::join(versions, ","))}});
}

HubError branch_not_found(const std::string& repo, const std::string& branch) {
  return make(ErrorCode::kRevisionNotFound, fmt::format("{} has no branch {}", repo, branch), {},
              {{"repo", repo}, {"revision", branch}});
}

HubError no_kernel_builds(const RepoId& repo, const CommitHash& commit) {
  return make(ErrorCode::kNoKernelBuilds,
              fmt::format("{} has no kernel builds: no build/ folder", place(repo, commit)),
              "ask for a version: kernels are published on branches v1, v2, ...",
              {{"repo", repo.str()}, {"commit", commit.str()}});
}

HubError entry_not_found(const RepoId& repo, const CommitHash& commit, std::string_view path) {
  return make(ErrorCode::kEntryNotFound, fmt::format("{} has no {}", place(repo, commit), path), {},
              {{"repo", repo.str()}, {"commit", commit.str()}, {"path", std::string(path)}});
}

HubError unsafe_listing(const std::string& origin, const std::string& path,
                        const std::string& reason) {
  return make(ErrorCode::kUnsafeListing,
              fmt::format("listing refused because of \"{}\": {} ({})", shown(path), reason,
                          without_query(origin)),
              "report this repository; nothing of it is used",
              {{"path", path}, {"url", without_query(origin)}});
}

HubError listing_too_long(const std::string& origin, std::size_t limit, std::string_view unit) {
  return make(
      ErrorCode::kUnsafeListing,
      fmt::format("listing refused: more than {} {} ({})", limit, unit, without_query(origin)), {},
      {{"url", without_query(origin)}});
}

HubError wrong_size(const CallSubject& subject, const std::string& url, std::uint64_t listed,
                    std::uint64_t received) {
  return make(ErrorCode::kIntegrity,
              fmt::format("{}: {} bytes listed, {} received from {}", place(subject), listed,
                          received, host_of(url)),
              "try again; if it stays, a proxy or mirror in between changes the file",
              {{"repo", subject.repo},
               {"path", subject.path},
               {"listed_bytes", std::to_string(listed)},
               {"received_bytes", std::to_string(received)}});
}

HubError wrong_hash(const CallSubject& subject, const std::string& url, const std::string& listed,
                    const std::string& received) {
  return make(
      ErrorCode::kIntegrity,
      fmt::format("{}: the listing promises {}, the bytes from {} are {}", place(subject), listed,
                  host_of(url), received),
      "try again; if it stays, a proxy or mirror in between changes the file",
      {{"repo", subject.repo}, {"path", subject.path}, {"listed", listed}, {"received", received}});
}

HubError file_too_large(const CallSubject& subject, std::uint64_t size, std::uint64_t limit) {
  return make(ErrorCode::kIntegrity,
              fmt::format("{} has {} bytes, at most {} are read", place(subject), size, limit), {},
              {{"path", subject.path}});
}

HubError offline_ref(const RepoId& repo, const std::string& revision,
                     const std::filesystem::path& ref) {
  return make(ErrorCode::kOfflineMiss,
              fmt::format("offline mode, and {}@{} was never fetched: no {}", repo.str(), revision,
                          ref.string()),
              "fetch it once online with `kernelhub download " + repo.str() + "`",
              {{"repo", repo.str()}, {"revision", revision}});
}

HubError offline_versions(const RepoId& repo, const std::filesystem::path& repo_dir) {
  return make(ErrorCode::kOfflineMiss,
              fmt::format("offline mode, and no version of {} is cached in {}", repo.str(),
                          repo_dir.string()),
              "fetch it once online with `kernelhub download " + repo.str() + "`",
              {{"repo", repo.str()}});
}

HubError offline_listing(const RepoId& repo, const CommitHash& commit, std::string_view path) {
  return make(ErrorCode::kOfflineMiss,
              fmt::format("offline mode, and the listing of {} at {} is not cached", path,
                          place(repo, commit)),
              "fetch it once online with `kernelhub download " + repo.str() + "`",
              {{"repo", repo.str()}, {"commit", commit.str()}, {"path", std::string(path)}});
}

HubError offline_files(const RepoId& repo, const CommitHash& commit,
                       const std::vector<std::string>& missing) {
  return make(ErrorCode::kOfflineMiss,
              fmt::format("offline mode, and {} of {} not cached: {}", missing.size(),
                          place(repo, commit), fmt::join(missing, ", ")),
              "fetch it once online with `kernelhub download " + repo.str() + "`",
              {{"repo", repo.str()},
               {"commit", commit.str()},
               {"missing", fmt::format("{}", fmt::join(missing, "\n"))}});
}

HubError offline_call(const CallSubject& subject, const std::string& url) {
  return make(ErrorCode::kOfflineMiss,
              fmt::format("offline mode, so {} is not asked for", place(subject)),
              "unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE", {{"url", without_query(url)}});
}

HubError cache_corrupt(const std::filesystem::path& path, const std::string& found,
                       const std::string& wanted) {
  return make(
      ErrorCode::kCacheCorrupt,
      fmt::format("cache entry {} is damaged: {}, expected {}", path.string(), found, wanted),
      "run once online to repair it, or remove it", {{"path", path.string()}});
}

HubError cache_read_only(const std::filesystem::path& directory, const std::string& reason) {
  return make(ErrorCode::kCacheReadOnly,
              fmt::format("files are missing and the cache {} cannot be written: {}",
                          directory.string(), reason),
              std::string(kCacheHint), {{"directory", directory.string()}});
}

HubError disk_full(const std::filesystem::path& directory, std::uint64_t need, std::uint64_t have) {
  return make(ErrorCode::kDiskFull,
              fmt::format("{} bytes are needed in {}, {} are free", need, directory.string(), have),
              "free space there, or " + std::string(kCacheHint),
              {{"directory", directory.string()},
               {"need_bytes", std::to_string(need)},
               {"have_bytes", std::to_string(have)}});
}

HubError cache_io(const std::string& action, const std::filesystem::path& path, int error_number) {
  const bool read_only = error_number == EROFS || error_number == EACCES || error_number == EPERM;
  const bool full = error_number == ENOSPC || error_number == EDQUOT;
  const ErrorCode code = read_only ? ErrorCode::kCacheReadOnly
                         : full    ? ErrorCode::kDiskFull
                                   : ErrorCode::kIo;
  return make(code,
              fmt::format("cannot {} {}: {}", action, path.string(),
                          std::generic_category().message(error_number)),
              read_only || full ? std::string(kCacheHint) : std::string(),
              {{"path", path.string()}});
}

HubError cancelled(const CallSubject& subject) {
  return make(ErrorCode::kCancelled, "cancelled: " + place(subject), {}, {{"path", subject.path}});
}

HubError transport_setup(const std::string& what) {
  return make(ErrorCode::kNetwork, "the HTTP library refuses to start: " + what, {}, {});
}

HubError token_needed(const CallSubject& subject) {
  return make(ErrorCode::kAuthRequired, "a token is needed: " + place(subject),
              "set HF_TOKEN to a token with write scope", {{"repo", subject.repo}});
}

HubError source_changed(const std::filesystem::path& source, std::uint64_t planned,
                        std::uint64_t found) {
  return make(ErrorCode::kIo,
              fmt::format("{} changed while it was uploaded: {} bytes planned, {} found",
                          source.string(), planned, found),
              "upload again when nothing writes to it", {{"path", source.string()}});
}

HubError upload_refused(const std::string& repo, const std::string& path,
                        const std::string& reason) {
  return make(ErrorCode::kBadRequest,
              fmt::format("{} of {} cannot be uploaded: {}", path, repo, shown(reason)), {},
              {{"repo", repo}, {"path", path}});
}

HubError head_moved(const std::string& repo, const std::string& branch, int attempts) {
  return make(
      ErrorCode::kPreconditionFailed,
      fmt::format("{}@{} moved during each of {} attempts to commit", repo, branch, attempts),
      "upload again when nobody else writes to this branch",
      {{"repo", repo}, {"revision", branch}});
}

HubError ambiguous_commit(const std::string& repo, const std::string& branch,
                          const std::string& reason) {
  return make(ErrorCode::kNetwork,
              fmt::format("the commit to {}@{} was sent but not confirmed: {}", repo, branch,
                          shown(reason)),
              "look at the branch before uploading again", {{"repo", repo}, {"revision", branch}});
}

}  // namespace kernelhub::hub::hub_errors
