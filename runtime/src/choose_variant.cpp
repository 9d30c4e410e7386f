// SPDX-License-Identifier: Apache-2.0
#include "choose_variant.h"

#include "check_dependencies.h"
#include "runtime_errors.h"

#include "kernelhub/core/log.h"
#include "kernelhub/hub/snapshot.h"
#include "kernelhub/hub/stop_scope.h"

namespace kernelhub {
namespace {

constexpr std::uint64_t kMaxMetadataBytes = 1u << 20;

std::optional<std::int64_t> newest_version_that_fits(const Request& request, hub::Client& client,
                                                     const hub::ResolvedKernel& resolved) {
  if (!request.spec.version || resolved.versions.empty() ||
      resolved.versions.back() == *request.spec.version) {
    return std::nullopt;
  }
  const std::int64_t newest = resolved.versions.back();
  const auto attempt = catch_to_result([&] {
    const auto other = client.resolve(request.repo, KernelSpec::of_version(newest));
    return select_variant(client.list_variants(request.repo, other.pinned.commit), request.system,
                          request.backend, request.noarch);
  });
  return attempt && attempt.value().chosen ? std::optional(newest) : std::nullopt;
}

VariantChoice choose_variant(const Request& request, hub::Client& client,
                             const hub::ResolvedKernel& resolved,
                             const std::optional<std::string>& wanted) {
  VariantChoice choice = select_variant(client.list_variants(request.repo, resolved.pinned.commit),
                                        request.system, request.backend, request.noarch);
  if (wanted) choice.chosen = wanted;
  if (choice.chosen) return choice;
  throw runtime_errors::no_compatible_variant(request.repo.str() + "@" + request.spec.str(),
                                              choice.decisions, request.system, request.backend,
                                              newest_version_that_fits(request, client, resolved));
}

const hub::TreeFile& metadata_file(const std::vector<hub::TreeFile>& files,
                                   const std::string& variant) {
  for (const hub::TreeFile& file : files) {
    if (file.path == "build/" + variant + "/metadata.json") return file;
  }
  throw LoadError(ErrorCode::kInvalidMetadata,
                  "build/" + variant + " has no metadata.json, so it cannot be loaded",
                  "rebuild the variant with 'kernelhub build'");
}

void warn_if_outdated(const RepoId& repo, const hub::ResolvedKernel& resolved) {
  const auto version = resolved.pinned.version;
  if (!version || resolved.versions.empty() || *version >= resolved.versions.back()) return;
  log(LogLevel::kWarning, repo.str() + ": version " + std::to_string(*version) +
                              " is asked for, the newest is " +
                              std::to_string(resolved.versions.back()));
}

}  // namespace

std::string source_name(const trust::Origin& origin) {
  return origin.repo ? origin.repo->str() + "@" + origin.commit->str() : origin.directory.string();
}

ChosenVariant choose_from_hub(const Request& request, TrustContext& trust,
                              const std::optional<std::string>& wanted) {
  const hub::StopScope stop(request.options.progress);
  trust::Candidate asked;
  asked.endpoint = request.config.endpoint;
  asked.repo = request.repo;
  require_allowed(trust, asked, trust.policy.decide_id(request.repo), request.spec.str());

  const auto lock = find_lock(request);
  const auto client = shared_client(request.config);
  const hub::ResolvedKernel resolved = client->resolve(
      request.repo, lock ? KernelSpec::of_revision(lock->commit.str()) : request.spec);
  warn_if_outdated(request.repo, resolved);
  if (!resolved.cache_reason.empty()) {
    log(LogLevel::kWarning, request.repo.str() + ": using the cached " + request.spec.str() +
                                ", because " + resolved.cache_reason);
  }
  trust::Candidate candidate = gather_evidence(request, trust, *client, resolved, lock);
  require_allowed(trust, candidate, trust.policy.decide(candidate), request.spec.str());

  ChosenVariant out{choose_variant(request, *client, resolved, wanted),
                    {},
                    {},
                    {},
                    {},
                    resolved.pinned,
                    {},
                    client};
  const std::string& variant = *out.choice.chosen;
  out.files = hub::list_variant_files(*client, resolved.pinned, variant);
  out.origin = {request.config.endpoint, request.repo, request.spec,
                resolved.pinned.commit,  variant,      {}};
  out.metadata = trust::parse_bound_metadata(
      client->read_file(request.repo, resolved.pinned.commit, metadata_file(out.files, variant),
                        kMaxMetadataBytes),
      out.origin);
  check_dependencies(out.metadata, source_name(out.origin));
  if (request.options.check_metadata) request.options.check_metadata(out.metadata);
  candidate.variant = variant;
  candidate.dirty = out.metadata.dirty();
  if (lock) {
    const auto pinned_digest = lock->variant_digests.find(variant);
    candidate.lock_has_digest = pinned_digest != lock->variant_digests.end();
    if (candidate.lock_has_digest) out.lock_digest = pinned_digest->second;
  }
  out.decision =
      require_allowed(trust, candidate, trust.policy.decide(candidate), request.spec.str());
  return out;
}

}  // namespace kernelhub
