// SPDX-License-Identifier: Apache-2.0
#include "verify_files.h"

#include "kernelhub/hub/snapshot.h"

#include <filesystem>

namespace kernelhub {
namespace {

namespace fs = std::filesystem;

trust::Expected expected_bytes(const ChosenVariant& chosen, const fs::path& blob_root) {
  trust::Expected expected{chosen.lock_digest, {}, blob_root};
  const std::size_t prefix = std::string("build/").size() + chosen.origin.variant.size() + 1;
  for (const hub::TreeFile& file : chosen.files) {
    expected.listing.push_back({file.path.substr(prefix),
                                file.lfs_sha256.empty()
                                    ? Digest::from_hex(DigestAlgorithm::kSha1, file.git_oid)
                                    : Digest::from_hex(DigestAlgorithm::kSha256, file.lfs_sha256),
                                file.size_bytes});
  }
  return expected;
}

}  // namespace

void remember(const Request& request, TrustContext& trust, const ChosenVariant& chosen) {
  for (const trust::Evidence evidence : chosen.decision.used) {
    if (evidence != trust::Evidence::kPublisher && evidence != trust::Evidence::kExplicit) continue;
    if (trust.state.is_recorded(request.config.endpoint, request.repo, chosen.pinned.commit)) break;
    trust.state.record_decision(request.config.endpoint, request.repo, chosen.pinned.commit,
                                request.spec.version, trust::evidence_name(evidence));
    break;
  }
  if (request.options.lockfile.empty() && !CommitHash::is_commit(request.spec.str())) {
    hub::remember_ref(*chosen.client, request.repo, request.spec.str(), chosen.pinned.commit);
  }
}

trust::VerifiedPackage fetch_and_verify(const Request& request, TrustContext& trust,
                                        ChosenVariant chosen) {
  // Without a version: the ref is written by remember(), after the bytes were verified.
  const PinnedKernel files_only{chosen.pinned.repo, chosen.pinned.commit, std::nullopt};
  const hub::Snapshot snapshot = hub::fetch_snapshot(
      *chosen.client, files_only, chosen.origin.variant, chosen.files, request.options.progress);
  chosen.origin.directory = snapshot.directory;
  auto verified = trust::verify_variant(chosen.origin, chosen.metadata,
                                        expected_bytes(chosen, snapshot.blob_root), trust.policy,
                                        chosen.decision);
  remember(request, trust, chosen);
  return verified;
}

}  // namespace kernelhub
