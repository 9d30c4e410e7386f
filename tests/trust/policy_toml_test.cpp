// SPDX-License-Identifier: Apache-2.0
#include "expect_error.h"
#include "temp_directory.h"

#include "kernelhub/trust/policy.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <unistd.h>

namespace kernelhub::trust {
namespace {

namespace fs = std::filesystem;

class PolicyFiles : public testing::Test {
 protected:
  PolicyFiles() {
    config_.system_trust_file = directory_ / "etc.toml";
    config_.trust_file = directory_ / "user.toml";
    config_.state_dir = directory_ / "state";
  }
  TrustPolicy load(std::string_view user, std::string_view system = "") {
    directory_.write("user.toml", user);
    directory_.write("etc.toml", system);
    return TrustPolicy::load(config_);
  }
  std::optional<ErrorCode> load_code(std::string_view user) {
    return code_of([&] { load(user); });
  }
  TempDirectory directory_;
  Config config_;
};

TEST_F(PolicyFiles, MayAllBeMissing) {
  const TrustPolicy policy = TrustPolicy::load(config_);
  EXPECT_EQ(policy.mode(), Mode::kStandard);
  EXPECT_EQ(policy.mode_origin(), "built-in");
  EXPECT_FALSE(policy.audit_path());
  EXPECT_EQ(policy.fingerprint(), TrustPolicy::defaults().fingerprint());
}

TEST_F(PolicyFiles, MakeTheStrictestModeTheFloor) {
  EXPECT_EQ(load("mode = \"compat\"", "mode = \"strict\"").mode(), Mode::kStrict);
  EXPECT_EQ(load("mode = \"strict\"", "mode = \"compat\"").mode(), Mode::kStrict);
  const TrustPolicy policy = load("", "\nmode = \"standard\"");
  EXPECT_EQ(policy.mode_origin(), (directory_ / "etc.toml").string() + ":2");
  config_.trust_mode = "compat";
  EXPECT_EQ(load_code("mode = \"standard\""), ErrorCode::kPolicyInvalid);
  config_.trust_mode = "strict";
  EXPECT_EQ(load("mode = \"standard\"").mode(), Mode::kStrict);
}

TEST_F(PolicyFiles, LeaveTheVariableFreeWhenTheyNameNoMode) {
  config_.trust_mode = "compat";
  EXPECT_EQ(load("").mode(), Mode::kCompat);
  for (const char* bad : {"off", "STRICT", "none"}) {
    config_.trust_mode = bad;
    EXPECT_EQ(load_code(""), ErrorCode::kPolicyInvalid) << bad;
  }
}

TEST_F(PolicyFiles, AddUpEndpointsAndDenials) {
  const TrustPolicy policy =
      load("endpoints = [\"http://127.0.0.1:8080/\"]\n[[source]]\nmatch = \"evil/*\"\ndeny = true",
           "endpoints = [\"https://hub.example.org\"]\n[[source]]\nmatch = \"a/b\"\ndeny = true");
  EXPECT_TRUE(policy.counts_publisher_of("http://127.0.0.1:8080"));
  EXPECT_TRUE(policy.counts_publisher_of("https://HUB.example.org/"));
  EXPECT_TRUE(policy.counts_publisher_of("https://huggingface.co"));
  EXPECT_FALSE(policy.counts_publisher_of("http://127.0.0.1:8081"));
  EXPECT_FALSE(policy.decide_id(RepoId::parse("evil/x")).allow);
  EXPECT_FALSE(policy.decide_id(RepoId::parse("EVIL/x")).allow);
  EXPECT_FALSE(policy.decide_id(RepoId::parse("a/b")).allow);
  EXPECT_TRUE(policy.decide_id(RepoId::parse("a/bc")).allow);
  EXPECT_TRUE(policy.decide_id(RepoId::parse("evil2/x")).allow);
  EXPECT_NE(policy.decide_id(RepoId::parse("evil/x")).reason.find("user.toml:2"),
            std::string::npos);
}

TEST_F(PolicyFiles, SetFlagsAndAudit) {
  const TrustPolicy policy =
      load("allow_http = true\nrequire_sealed = true\naudit = \"/var/log/k.jsonl\"");
  EXPECT_TRUE(policy.allow_http());
  EXPECT_TRUE(policy.require_sealed());
  EXPECT_EQ(policy.audit_path(), fs::path("/var/log/k.jsonl"));
  EXPECT_EQ(load("audit = \"\"").audit_path(), fs::path());
  EXPECT_TRUE(load("require_sealed = false", "require_sealed = true").require_sealed());
}

TEST_F(PolicyFiles, RefuseUnknownKeysWithTheirLine) {
  const Error error = error_of([&] { load("mode = \"standard\"\n\nsigner = 1\n"); });
  EXPECT_EQ(error.code(), ErrorCode::kPolicyInvalid);
  EXPECT_NE(std::string(error.what()).find("user.toml:3"), std::string::npos) << error.what();
  for (const char* text :
       {"modes = 1", "mode = 1", "mode = \"off\"", "mode = \"strict", "endpoints = \"http://x\"",
        "endpoints = [1]", "endpoints = [\"ftp://x\"]", "allow_http = \"yes\"",
        "audit = \"relative\"", "source = 1", "[source]\nmatch = \"a/b\"",
        "[[source]]\ndeny = true", "[[source]]\nmatch = \"a/*b\"", "[[source]]\nmatch = \"*\"",
        "[[source]]\nmatch = \"../x\"", "[[source]]\nmatch = \"a/b\"\nrequire = [\"lock\"]",
        "[[source]]\nmatch = \"a/b\"\ndeny = 1", "[[signer]]\nname = \"x\"",
        "mode = \"strict\"\nmode = \"strict\""}) {
    EXPECT_EQ(load_code(text), ErrorCode::kPolicyInvalid) << text;
  }
}

TEST_F(PolicyFiles, MustNotBeWritableByOthers) {
  load("mode = \"strict\"");
  for (const auto bits : {fs::perms::group_write, fs::perms::others_write}) {
    fs::permissions(directory_ / "user.toml", bits, fs::perm_options::add);
    EXPECT_EQ(code_of([&] { TrustPolicy::load(config_); }), ErrorCode::kPolicyInvalid);
    fs::permissions(directory_ / "user.toml", bits, fs::perm_options::remove);
  }
  EXPECT_EQ(TrustPolicy::load(config_).mode(), Mode::kStrict);
}

TEST_F(PolicyFiles, MustNotBelongToAnotherUser) {
  load("mode = \"strict\"");
  if (::chown((directory_ / "user.toml").c_str(), 54321, 54321) != 0) {
    GTEST_SKIP() << "only root can give a file away";
  }
  EXPECT_EQ(code_of([&] { TrustPolicy::load(config_); }), ErrorCode::kPolicyInvalid);
}

TEST_F(PolicyFiles, MustBeRegularAndShort) {
  fs::create_directory(directory_ / "user.toml");
  EXPECT_EQ(code_of([&] { TrustPolicy::load(config_); }), ErrorCode::kPolicyInvalid);
  fs::remove(directory_ / "user.toml");
  EXPECT_EQ(load_code("# " + std::string(1u << 20, 'x')), ErrorCode::kPolicyInvalid);
}

TEST_F(PolicyFiles, ChangeTheFingerprintWithEveryRule) {
  const std::string base = load("").fingerprint();
  EXPECT_EQ(base.size(), 71U);
  EXPECT_EQ(load("# comment\n").fingerprint(), base);
  for (const char* text : {"mode = \"strict\"", "endpoints = [\"http://h\"]", "allow_http = true",
                           "audit = \"\"", "[[source]]\nmatch = \"a/b\"\ndeny = true"}) {
    EXPECT_NE(load(text).fingerprint(), base) << text;
  }
}

}  // namespace
}  // namespace kernelhub::trust
