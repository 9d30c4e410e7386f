// SPDX-License-Identifier: Apache-2.0
#include "resolve_source.h"

#include "hub_errors.h"

#include <algorithm>

namespace kernelhub::hub {
namespace {

// A cached answer stands in for a hub that cannot be asked, never for one that says no.
bool allows_fallback(ErrorCode code) {
  switch (code) {
    case ErrorCode::kNetwork:
    case ErrorCode::kDnsFailure:
    case ErrorCode::kProxyFailure:
    case ErrorCode::kTlsFailure:
    case ErrorCode::kTimeout:
    case ErrorCode::kServerError:
    case ErrorCode::kRateLimited:
    case ErrorCode::kNotAHub:
    case ErrorCode::kRepoNotFound:
    case ErrorCode::kAuthRequired:
    case ErrorCode::kAuthInvalid:
    case ErrorCode::kForbidden:
    case ErrorCode::kGatedRepo:
      return true;
    default:
      return false;
  }
}

std::optional<CommitHash> named_commit(const std::vector<Branch>& refs, std::string_view name) {
  const auto found = std::find_if(refs.begin(), refs.end(),
                                  [name](const Branch& ref) { return ref.name == name; });
  if (found == refs.end()) return std::nullopt;
  return found->commit;
}

// Branches beat tags of the same name.
std::optional<CommitHash> find_in_refs(const Refs& refs, std::string_view revision) {
  constexpr std::string_view kHeads = "refs/heads/";
  constexpr std::string_view kTags = "refs/tags/";
  if (revision.starts_with(kHeads)) {
    return named_commit(refs.branches, revision.substr(kHeads.size()));
  }
  if (revision.starts_with(kTags)) return named_commit(refs.tags, revision.substr(kTags.size()));
  if (const auto branch = named_commit(refs.branches, revision)) return branch;
  return named_commit(refs.tags, revision);
}

ResolvedKernel ask_hub(ClientState& state, const RepoId& repo, const KernelSpec& spec,
                       HubCall::Attempts attempts) {
  const Refs refs = state.fetch_refs(repo, attempts);
  const std::vector<std::int64_t> versions = versions_of(refs.branches);
  if (spec.version) {
    const auto commit = named_commit(refs.branches, spec.str());
    if (!commit) throw hub_errors::version_not_found(repo, *spec.version, versions);
    return {{repo, *commit, spec.version}, false, {}, versions};
  }
  auto commit = find_in_refs(refs, *spec.revision);
  // Pull requests and shortened commits are known to the revision route only.
  if (!commit) commit = state.fetch_revision(repo, *spec.revision, attempts);
  return {{repo, *commit, std::nullopt}, false, {}, versions};
}

// The cached ref when its snapshot is there too; a damaged one counts as none while online.
std::optional<CommitHash> usable_cached_ref(const ClientState& state, const RepoId& repo,
                                            const std::string& name) {
  try {
    const auto commit = state.cache.read_ref(repo, name);
    std::error_code error;
    if (!commit || !std::filesystem::is_directory(state.cache.snapshot(repo, *commit), error)) {
      return std::nullopt;
    }
    return commit;
  } catch (const HubError& error) {
    if (error.code() == ErrorCode::kCacheCorrupt) return std::nullopt;
    throw;
  }
}

}  // namespace

std::vector<std::int64_t> versions_of(const std::vector<Branch>& branches) {
  std::vector<std::int64_t> versions;
  for (const Branch& branch : branches) {
    if (const auto version = version_of_branch(branch.name)) versions.push_back(*version);
  }
  std::sort(versions.begin(), versions.end());
  return versions;
}

HubError missing_listing(ClientState& state, const RepoId& repo, const CommitHash& commit,
                         std::string_view path) {
  if (const auto damaged = state.listings.damaged_sidecar(repo, commit)) {
    return hub_errors::cache_corrupt(*damaged, "unreadable JSON", "a listing");
  }
  return hub_errors::offline_listing(repo, commit, path);
}

ResolvedKernel resolve_kernel(ClientState& state, const RepoId& repo, const KernelSpec& spec) {
  spec.validate();
  if (spec.revision && CommitHash::is_commit(*spec.revision)) {
    return {{repo, CommitHash::parse(*spec.revision), std::nullopt}, false, {}, {}};
  }
  const std::string name = spec.str();
  if (state.session.config().offline) {
    const auto commit = state.cache.read_ref(repo, name);
    if (!commit)
      throw hub_errors::offline_ref(repo, name, state.cache.repo_dir(repo) / "refs" / name);
    return {{repo, *commit, spec.version}, true, {}, state.cache.cached_versions(repo)};
  }
  const auto cached = usable_cached_ref(state, repo, name);
  try {
    return ask_hub(state, repo, spec,
                   cached ? HubCall::Attempts::kOnce : HubCall::Attempts::kRetried);
  } catch (const HubError& error) {
    if (!cached || !allows_fallback(error.code())) throw;
    return {{repo, *cached, spec.version}, true, error.what(), {}};
  }
}

}  // namespace kernelhub::hub
