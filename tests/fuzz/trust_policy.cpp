// SPDX-License-Identifier: Apache-2.0
// A policy file, and decisions under it: deny always wins, a decision is pure, and a stricter
// policy never allows what a laxer one refuses.
#include "oracle.h"
#include "policy_file.h"

using namespace kernelhub;
using namespace kernelhub::trust;

namespace {

/// All combinations of what a candidate may bring.
Candidate candidate_of(unsigned bits, const std::string& endpoint) {
  Candidate candidate;
  candidate.endpoint = endpoint;
  candidate.repo = RepoId::parse("org/kernel");
  candidate.commit = CommitHash::parse(std::string(40, 'a'));
  candidate.offline = bits & 1;
  candidate.explicit_now = bits & 2;
  candidate.decision_recorded = bits & 4;
  candidate.locked = bits & 8;
  candidate.lock_has_digest = bits & 16;
  candidate.dirty = bits & 32;
  candidate.publisher = bits & 64 ? PublisherFlag::kTrusted : PublisherFlag::kUntrusted;
  return candidate;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Folder folder;
  const auto path = folder.write("trust.toml", fuzz::text_of(data, size));
  fuzz::accepts([&] {
    const auto file = read_policy_file(path);
    PolicyMerge merge;
    merge.add(*file);
    const TrustPolicy policy = merge.take();
    const TrustPolicy stricter = policy.restricted_by(TrustPolicy::defaults());
    const std::string endpoint =
        file->endpoints.empty() ? "https://huggingface.co" : file->endpoints.front();
    for (unsigned bits = 0; bits < 128; ++bits) {
      const Candidate candidate = candidate_of(bits, endpoint);
      const Decision decision = policy.decide(candidate);
      fuzz::require(decision.allow == policy.decide(candidate).allow, "a decision is pure");
      fuzz::require(decision.allow || !decision.reason.empty(), "a refusal says why");
      for (const auto& source : file->sources) {
        const bool names_it = source.match == "org/kernel" || source.match == "org/*";
        fuzz::require(!(source.deny && names_it && decision.allow), "deny beats all evidence");
      }
      fuzz::require(decision.allow || !stricter.decide(candidate).allow,
                    "a restriction turns no refusal into permission");
    }
  });
  return 0;
}
