// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/hub/client.h"

#include "client_state.h"
#include "hub_errors.h"
#include "resolve_source.h"

#include "kernelhub/core/safe_path.h"

#include <algorithm>
#include <set>

namespace kernelhub::hub {
namespace {

// Trust spec 5.1.
constexpr std::uint64_t kMaxRefsBytes = 4u << 20;
constexpr std::uint64_t kMaxPublisherBytes = 256u << 10;
constexpr std::uint64_t kMaxPageBytes = 32u << 20;
constexpr std::uint64_t kMaxListingBytes = 256u << 20;
constexpr std::size_t kMaxListingFiles = 100'000;
constexpr std::size_t kMaxListingPages = 1'000;

const HttpHeaders kDownloadHeaders = {{"X-HF-Download-Counter", "1"}};

bool is_silence(ErrorCode code) {
  switch (code) {
    case ErrorCode::kNetwork:
    case ErrorCode::kDnsFailure:
    case ErrorCode::kProxyFailure:
    case ErrorCode::kTimeout:
    case ErrorCode::kServerError:
      return true;
    default:
      return false;
  }
}

// Target of `<url>; rel="next"` in a Link field that may name several.
std::optional<std::string> next_link(std::string_view field) {
  while (!field.empty()) {
    const std::size_t open = field.find('<');
    const std::size_t close = field.find('>', open);
    if (open == std::string_view::npos || close == std::string_view::npos) return std::nullopt;
    const std::size_t end = std::min(field.find(",", close), field.size());
    if (field.substr(close, end - close).find("rel=\"next\"") != std::string_view::npos) {
      return std::string(field.substr(open + 1, close - open - 1));
    }
    field.remove_prefix(end == field.size() ? end : end + 1);
  }
  return std::nullopt;
}

void check_duplicates(const Tree& tree, const std::string& origin) {
  std::set<std::string_view> seen;
  for (const TreeFile& file : tree.files) {
    if (!seen.insert(file.path).second) {
      throw hub_errors::unsafe_listing(origin, file.path, "it is listed twice");
    }
  }
  for (const std::string& path : tree.directories) {
    if (!seen.insert(path).second) {
      throw hub_errors::unsafe_listing(origin, path, "it is listed twice");
    }
  }
}

}  // namespace

Tree ClientState::fetch_tree(const RepoId& repo, const std::string& revision, std::string_view path,
                             Urls::Depth depth) {
  HubCall call;
  call.url = session.urls().tree(repo, revision, path, depth);
  call.subject = {"listing", repo.str(), revision, std::string(path)};
  call.headers = kDownloadHeaders;
  call.max_reply_bytes = kMaxPageBytes;
  const std::string origin = call.url;
  Tree tree;
  std::uint64_t received = 0;
  for (std::size_t page = 1;; ++page) {
    const HttpResponse reply = session.send(call);
    received += reply.body.size();
    if (received > kMaxListingBytes) {
      throw hub_errors::listing_too_long(origin, kMaxListingBytes, "bytes");
    }
    parse_tree_page(reply.body, call.url, path, tree);
    if (tree.files.size() > kMaxListingFiles) {
      throw hub_errors::listing_too_long(origin, kMaxListingFiles, "files");
    }
    const auto next = next_link(reply.header("link"));
    if (!next) break;
    if (page == kMaxListingPages) {
      throw hub_errors::listing_too_long(origin, kMaxListingPages, "pages");
    }
    call.url = session.redirects().next_page(call.url, *next);
  }
  check_duplicates(tree, origin);
  return tree;
}

Refs ClientState::fetch_refs(const RepoId& repo, HubCall::Attempts attempts) {
  HubCall call;
  call.url = session.urls().refs(repo);
  call.subject = {"refs", repo.str(), "", ""};
  call.headers = kDownloadHeaders;
  call.max_reply_bytes = kMaxRefsBytes;
  call.attempts = attempts;
  return parse_refs(session.send(call).body, call.url);
}

CommitHash ClientState::fetch_revision(const RepoId& repo, const std::string& revision,
                                       HubCall::Attempts attempts) {
  HubCall call;
  call.url = session.urls().revision(repo, revision);
  call.subject = {"revision", repo.str(), revision, ""};
  call.headers = kDownloadHeaders;
  call.max_reply_bytes = kMaxRefsBytes;
  call.attempts = attempts;
  return parse_revision(session.send(call).body, call.url);
}

Client::Client(Config config) : Client(config, make_curl_transport(config)) {}

Client::Client(Config config, std::shared_ptr<HttpTransport> transport)
    : state_(std::make_unique<ClientState>(config, std::move(transport))) {}

Client::~Client() = default;
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;

const Config& Client::config() const noexcept { return state_->session.config(); }

std::uint64_t Client::request_count() const noexcept { return state_->session.request_count(); }

ResolvedKernel Client::resolve(const RepoId& repo, const KernelSpec& spec) {
  return resolve_kernel(*state_, repo, spec);
}

std::vector<Branch> Client::list_branches(const RepoId& repo) {
  return state_->fetch_refs(repo, HubCall::Attempts::kRetried).branches;
}

std::vector<std::int64_t> Client::list_versions(const RepoId& repo) {
  if (!config().offline) return versions_of(list_branches(repo));
  const std::vector<std::int64_t> versions = state_->cache.cached_versions(repo);
  if (versions.empty()) throw hub_errors::offline_versions(repo, state_->cache.repo_dir(repo));
  return versions;
}

Tree Client::list_directory(const RepoId& repo, const CommitHash& commit, std::string_view path) {
  if (auto known = state_->listings.folder(repo, commit, path)) {
    if (known->files.empty() && known->directories.empty()) {
      throw hub_errors::entry_not_found(repo, commit, path);
    }
    return *std::move(known);
  }
  if (config().offline) throw missing_listing(*state_, repo, commit, path);
  Tree tree = state_->fetch_tree(repo, commit.str(), path, Urls::Depth::kFolder);
  state_->listings.add_folder(repo, commit, std::string(path), tree);
  return tree;
}

Tree Client::list_recursive(const RepoId& repo, const CommitHash& commit, std::string_view path) {
  if (auto known = state_->listings.recursive(repo, commit, path)) {
    if (known->files.empty()) throw hub_errors::entry_not_found(repo, commit, path);
    return *std::move(known);
  }
  if (config().offline) throw missing_listing(*state_, repo, commit, path);
  Tree tree = state_->fetch_tree(repo, commit.str(), path, Urls::Depth::kRecursive);
  state_->listings.add_recursive(repo, commit, std::string(path), tree);
  return tree;
}

std::vector<std::string> Client::list_variants(const RepoId& repo, const CommitHash& commit) {
  constexpr std::string_view kBuild = "build";
  try {
    std::vector<std::string> variants;
    for (const std::string& path : list_directory(repo, commit, kBuild).directories) {
      variants.push_back(path.substr(kBuild.size() + 1));
    }
    return variants;
  } catch (const HubError& error) {
    if (error.code() != ErrorCode::kEntryNotFound) throw;
    throw hub_errors::no_kernel_builds(repo, commit);
  }
}

Publisher Client::publisher(std::string_view ns, bool once) {
  HubCall call;
  call.url = state_->session.urls().organization(ns);
  call.subject = {"publisher " + std::string(ns), "", "", ""};
  call.headers = kDownloadHeaders;
  call.max_reply_bytes = kMaxPublisherBytes;
  call.attempts = once ? HubCall::Attempts::kOnce : HubCall::Attempts::kRetried;
  try {
    return {parse_publisher_flag(state_->session.send(call).body, call.url), {}, false};
  } catch (const Error& error) {
    return {false, error.what(), is_silence(error.code())};
  }
}

std::optional<std::string> Client::read_file_at(const RepoId& repo, std::string_view revision,
                                                std::string_view path, std::uint64_t max_bytes) {
  HubCall call;
  call.url = state_->session.urls().resolve(repo, revision, SafeRelPath::parse(path, "path").str());
  call.subject = {"file", repo.str(), std::string(revision), std::string(path)};
  call.headers = {{"Accept-Encoding", "identity"}, {"X-HF-Download-Counter", "1"}};
  call.max_reply_bytes = max_bytes;
  call.timeouts = HubCall::Timeouts::kBody;
  try {
    return state_->session.send(call).body;
  } catch (const HubError& error) {
    if (error.code() == ErrorCode::kEntryNotFound) return std::nullopt;
    throw;
  }
}

}  // namespace kernelhub::hub
