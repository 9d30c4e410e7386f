// SPDX-License-Identifier: Apache-2.0
#include "expect_error.h"
#include "temp_directory.h"

#include "kernelhub/trust/policy.h"

#include <gtest/gtest.h>

#include <string>

namespace kernelhub::trust {
namespace {

constexpr const char* kLocalHub = "http://127.0.0.1:8080";

TrustPolicy policy_of(const std::string& text) {
  const TempDirectory directory;
  Config config;
  config.system_trust_file.clear();
  config.trust_file = directory.write("trust.toml", text);
  return TrustPolicy::load(config);
}

TrustPolicy in(Mode mode, const std::string& more = "") {
  return policy_of("mode = \"" + std::string(mode_name(mode)) + "\"\n" + more);
}

Candidate online() {
  Candidate candidate;
  candidate.endpoint = "https://huggingface.co";
  candidate.repo = RepoId::parse("org/relu");
  candidate.commit = CommitHash::parse(std::string(40, 'a'));
  return candidate;
}

Candidate offline() {
  Candidate candidate = online();
  candidate.offline = true;
  return candidate;
}

/// One letter per mode compat, standard, strict: 'y' allowed, '-' refused.
std::string verdicts(const Candidate& candidate, const std::string& more = "") {
  std::string text;
  for (const Mode mode : {Mode::kCompat, Mode::kStandard, Mode::kStrict}) {
    const Decision decision = in(mode, more).decide(candidate);
    EXPECT_FALSE(decision.reason.empty());
    EXPECT_EQ(decision.code.empty(), decision.allow);
    EXPECT_EQ(decision.remedy.empty(), decision.allow);
    text += decision.allow ? 'y' : '-';
  }
  return text;
}

TEST(Decide, RefusesAnOnlineRepoWithoutEvidence) {
  EXPECT_EQ(verdicts(online()), "---");
  Candidate untrusted = online();
  untrusted.publisher = PublisherFlag::kUntrusted;
  EXPECT_EQ(verdicts(untrusted), "---");
}

TEST(Decide, TakesTheRecordedDecisionOnlyOffline) {
  Candidate recorded = online();
  recorded.decision_recorded = true;
  EXPECT_EQ(verdicts(recorded), "---");
  recorded.offline = true;
  EXPECT_EQ(verdicts(recorded), "yy-");
}

TEST(Decide, TakesPublisherAndExplicitBelowStrict) {
  Candidate publisher = online();
  publisher.publisher = PublisherFlag::kTrusted;
  EXPECT_EQ(verdicts(publisher), "yy-");
  Candidate asked = online();
  asked.explicit_now = true;
  EXPECT_EQ(verdicts(asked), "yy-");
  asked.offline = true;
  EXPECT_EQ(verdicts(asked), "yy-");
}

TEST(Decide, TakesASignatureEverywhere) {
  Candidate candidate = online();
  candidate.signature_valid = true;
  EXPECT_EQ(verdicts(candidate), "yyy");
  candidate.offline = true;
  EXPECT_EQ(verdicts(candidate), "yyy");
}

TEST(Decide, LetsOnlyCompatLoadOfflineWithoutARecord) {
  EXPECT_EQ(verdicts(offline()), "y--");
  EXPECT_EQ(in(Mode::kCompat).decide(offline()).warnings.size(), 1U);
  Candidate flagged = offline();
  flagged.publisher = PublisherFlag::kTrusted;
  EXPECT_EQ(verdicts(flagged), "y--");
}

TEST(Decide, NeedsADigestForALockInStrict) {
  Candidate locked = online();
  locked.locked = true;
  EXPECT_EQ(verdicts(locked), "yy-");
  EXPECT_EQ(in(Mode::kStandard).decide(locked).warnings.size(), 1U);
  EXPECT_EQ(in(Mode::kCompat).decide(locked).warnings.size(), 0U);
  locked.lock_has_digest = true;
  EXPECT_EQ(verdicts(locked), "yyy");
  EXPECT_EQ(in(Mode::kStandard).decide(locked).used, std::vector<Evidence>{Evidence::kLock});
  EXPECT_TRUE(in(Mode::kStandard).decide(locked).warnings.empty());
}

TEST(Decide, CountsTheFlagOfAnotherEndpointOnlyWhenListed) {
  Candidate candidate = online();
  candidate.endpoint = kLocalHub;
  candidate.publisher = PublisherFlag::kTrusted;
  EXPECT_EQ(verdicts(candidate), "y--");
  EXPECT_EQ(verdicts(candidate, "endpoints = [\"http://127.0.0.1:8080/\"]"), "yy-");
  EXPECT_NE(in(Mode::kStandard).decide(candidate).remedy.find(kLocalHub), std::string::npos);
}

TEST(Decide, NamesAPublisherThatCouldNotBeAsked) {
  Candidate candidate = online();
  candidate.publisher = PublisherFlag::kUnverifiable;
  candidate.publisher_error = "timeout of the overview";
  const Decision decision = in(Mode::kStandard).decide(candidate);
  EXPECT_EQ(decision.code, "PublisherUnverifiable");
  EXPECT_NE(decision.reason.find("timeout of the overview"), std::string::npos);
  candidate.explicit_now = true;
  EXPECT_TRUE(in(Mode::kStandard).decide(candidate).allow);
}

TEST(Decide, LetsDenyBeatEveryEvidence) {
  Candidate candidate = online();
  candidate.explicit_now = candidate.locked = candidate.lock_has_digest = true;
  candidate.signature_valid = candidate.decision_recorded = true;
  candidate.publisher = PublisherFlag::kTrusted;
  const std::string deny = "[[source]]\nmatch = \"org/*\"\ndeny = true";
  EXPECT_EQ(verdicts(candidate, deny), "---");
  candidate.is_local_override = true;
  candidate.local_path = "/k";
  EXPECT_EQ(verdicts(candidate, deny), "---");
}

TEST(Decide, AllowsLocalPathsAndListedOverrides) {
  Candidate local;
  local.local_path = "/home/u/relu/build/torch-cpu";
  EXPECT_EQ(verdicts(local), "yyy");
  Candidate replaced = online();
  replaced.is_local_override = true;
  replaced.local_path = "/home/u/relu/build/torch-cpu";
  EXPECT_EQ(verdicts(replaced), "yy-");
  EXPECT_EQ(in(Mode::kStandard).decide(replaced).warnings.size(), 1U);
  const auto listed = [](const std::string& path) {
    return "[[source]]\nmatch = \"org/relu\"\npath = \"" + path + "\"";
  };
  EXPECT_EQ(verdicts(replaced, listed("/home/u/relu")), "yyy");
  EXPECT_EQ(verdicts(replaced, listed("/home/u/relu/")), "yyy");
  EXPECT_EQ(verdicts(replaced, listed("/home/u/rel")), "yy-");
  EXPECT_EQ(verdicts(replaced, listed("/home/other")), "yy-");
}

TEST(Decide, RefusesDirtyBuildsInStrictAndWarnsElsewhere) {
  Candidate candidate = online();
  candidate.dirty = candidate.locked = candidate.lock_has_digest = true;
  EXPECT_EQ(verdicts(candidate), "yy-");
  EXPECT_EQ(in(Mode::kStandard).decide(candidate).warnings.size(), 1U);
}

TEST(Decide, RefusesPlainHttpToAnotherMachine) {
  Candidate candidate = online();
  candidate.endpoint = "http://hub.lan";
  candidate.explicit_now = candidate.signature_valid = true;
  EXPECT_EQ(verdicts(candidate), "---");
  EXPECT_EQ(verdicts(candidate, "allow_http = true"), "yyy");
}

TEST(TrustRemoteCode, ComparesIdsInFullAndByCase) {
  const RepoId repo = RepoId::parse("org/relu");
  EXPECT_TRUE((TrustRemoteCode{true, {}}.allows(repo)));
  EXPECT_TRUE((TrustRemoteCode{false, {"a/b", "org/relu"}}.allows(repo)));
  for (const char* other : {"Org/relu", "org", "relu", "org/relu2", "org/*"}) {
    EXPECT_FALSE((TrustRemoteCode{false, {other}}.allows(repo))) << other;
  }
  EXPECT_FALSE(TrustRemoteCode{}.allows(repo));
}

}  // namespace
}  // namespace kernelhub::trust
