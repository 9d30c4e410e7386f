// SPDX-License-Identifier: Apache-2.0
#include "policy_file.h"

#include "kernelhub/trust/policy.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace kernelhub::trust {
namespace {

constexpr int kPairs = 20'000;
constexpr int kCandidatesPerPair = 8;
constexpr unsigned kSeed = 20260101;

class Draw {
 public:
  bool coin() { return random_() % 2 == 0; }
  unsigned below(unsigned n) { return static_cast<unsigned>(random_() % n); }

  std::string endpoint() {
    const char* const all[] = {"https://huggingface.co", "http://127.0.0.1:8080", "http://hub.lan",
                               "https://hub.example.org", "HTTPS://Hub.Example.org:443/"};
    return all[below(5)];
  }
  std::string repo() {
    const char* const all[] = {"org/a", "org/b", "Org/a", "other/a"};
    return all[below(4)];
  }
  TrustPolicy policy() {
    PolicyFile file;
    file.file = "/p";
    if (below(4) != 0) file.mode = static_cast<Mode>(below(3));
    for (unsigned n = below(3); n > 0; --n) file.endpoints.push_back(listed_endpoint());
    file.allow_http = coin();
    file.require_sealed = coin();
    if (coin()) file.audit = coin() ? "" : "/audit";
    for (unsigned n = below(3); n > 0; --n) {
      file.sources.push_back({coin() ? repo() : "org/*", coin(), coin() ? "/local" : "", n});
    }
    PolicyMerge merge;
    merge.add(file);
    return merge.take();
  }
  Candidate candidate() {
    Candidate candidate;
    candidate.endpoint = endpoint();
    if (below(8) != 0) candidate.repo = RepoId::parse(repo());
    candidate.local_path = coin() ? "/local/x" : "/elsewhere";
    candidate.is_local_override = below(4) == 0;
    candidate.offline = coin();
    candidate.publisher = static_cast<PublisherFlag>(below(4));
    candidate.explicit_now = coin();
    candidate.decision_recorded = coin();
    candidate.locked = coin();
    candidate.lock_has_digest = candidate.locked && coin();
    candidate.dirty = below(4) == 0;
    candidate.signature_valid = below(4) == 0;
    return candidate;
  }

 private:
  std::string listed_endpoint() {
    const char* const all[] = {"https://huggingface.co", "http://127.0.0.1:8080", "http://hub.lan",
                               "https://hub.example.org"};
    return all[below(4)];
  }
  std::mt19937 random_{kSeed};
};

TEST(PolicyPairs, TightenedPoliciesNeverAllowWhatEitherRefuses) {
  Draw draw;
  int allowed = 0;
  for (int pair = 0; pair < kPairs; ++pair) {
    const TrustPolicy a = draw.policy();
    const TrustPolicy b = draw.policy();
    const TrustPolicy both = a.restricted_by(b);
    ASSERT_EQ(both.mode(), std::max(a.mode(), b.mode()));
    ASSERT_EQ(both.require_sealed(), a.require_sealed() || b.require_sealed());
    for (int i = 0; i < kCandidatesPerPair; ++i) {
      const Candidate candidate = draw.candidate();
      if (!both.decide(candidate).allow) continue;
      ++allowed;
      ASSERT_TRUE(a.decide(candidate).allow) << "pair " << pair;
      ASSERT_TRUE(b.decide(candidate).allow) << "pair " << pair;
    }
  }
  EXPECT_GT(allowed, 1000);  // the property must not hold for want of cases
}

TEST(PolicyPairs, TighteningIsTheSameInBothOrders) {
  Draw draw;
  for (int pair = 0; pair < kPairs / 10; ++pair) {
    const TrustPolicy a = draw.policy();
    const TrustPolicy b = draw.policy();
    const TrustPolicy ab = a.restricted_by(b);
    const TrustPolicy ba = b.restricted_by(a);
    for (int i = 0; i < kCandidatesPerPair; ++i) {
      const Candidate candidate = draw.candidate();
      ASSERT_EQ(ab.decide(candidate).allow, ba.decide(candidate).allow) << "pair " << pair;
    }
  }
}

TEST(PolicyPairs, TighteningByItselfChangesNoDecision) {
  Draw draw;
  for (int pair = 0; pair < kPairs / 10; ++pair) {
    const TrustPolicy policy = draw.policy();
    const TrustPolicy same = policy.restricted_by(policy);
    const Candidate candidate = draw.candidate();
    ASSERT_EQ(same.decide(candidate).allow, policy.decide(candidate).allow) << "pair " << pair;
  }
}

TEST(PolicyDecisions, AreDeterministicAndAlwaysGiveAReason) {
  Draw draw;
  for (int i = 0; i < kPairs; ++i) {
    const TrustPolicy policy = draw.policy();
    const Candidate candidate = draw.candidate();
    const Decision once = policy.decide(candidate);
    const Decision again = policy.decide(candidate);
    ASSERT_EQ(once.allow, again.allow);
    ASSERT_EQ(once.reason, again.reason);
    ASSERT_FALSE(once.reason.empty());
    ASSERT_EQ(once.code.empty(), once.allow);
    if (candidate.repo && !policy.decide_id(*candidate.repo).allow) {
      ASSERT_FALSE(once.allow);
    }
  }
}

}  // namespace
}  // namespace kernelhub::trust
