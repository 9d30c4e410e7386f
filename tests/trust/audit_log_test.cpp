// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/trust/audit_log.h"

#include "expect_error.h"
#include "small_package.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fstream>
#include <string>
#include <sys/stat.h>
#include <thread>
#include <vector>

namespace kernelhub::trust {
namespace {

std::vector<nlohmann::json> lines_of(const std::filesystem::path& file) {
  std::vector<nlohmann::json> lines;
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

class Audit : public testing::Test {
 protected:
  Audit() {
    config_.state_dir = directory_ / "state";
    config_.system_trust_file.clear();
    config_.trust_file = directory_ / "trust.toml";
    config_.overrides = {"HF_ENDPOINT"};
  }
  AuditLog log(const std::string& policy = "") {
    directory_.write("trust.toml", policy);
    return AuditLog(TrustPolicy::load(config_), config_);
  }
  Candidate candidate() {
    Candidate candidate;
    candidate.endpoint = "https://huggingface.co";
    candidate.repo = RepoId::parse("org/relu");
    return candidate;
  }
  TempDirectory directory_;
  Config config_;
};

TEST_F(Audit, WritesOneLinePerLoadAndRefusal) {
  const Metadata metadata = write_small_package(directory_, "torch-cpu");
  Origin origin;
  origin.directory = directory_ / "torch-cpu";
  origin.variant = "torch-cpu";
  Decision decision;
  decision.allow = true;
  decision.used = {Evidence::kLocal};
  const VerifiedPackage package =
      verify_variant(origin, metadata, {}, TrustPolicy::defaults(), decision);
  const AuditLog audit = log();
  audit.loaded(audit_entry_of(package), "fd", 1.5);
  audit.refused(candidate(), "TrustDenied", "v1");
  const auto lines = lines_of(config_.state_dir / "audit.jsonl");
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0]["event"], "load");
  EXPECT_EQ(lines[0]["digest"], package.variant_digest());
  EXPECT_EQ(lines[0]["files"], 4);
  EXPECT_EQ(lines[0]["evidence"], nlohmann::json{"local"});
  EXPECT_EQ(lines[0]["load"], "fd");
  EXPECT_EQ(lines[0]["mode"], "standard");
  EXPECT_EQ(lines[0]["env"], nlohmann::json{"HF_ENDPOINT"});
  EXPECT_EQ(lines[1]["event"], "refuse");
  EXPECT_EQ(lines[1]["repo"], "org/relu");
  EXPECT_EQ(lines[1]["code"], "TrustDenied");
  EXPECT_EQ(lines[1]["policy"], TrustPolicy::load(config_).fingerprint());
}

TEST_F(Audit, CannotBeForgedByHostileText) {
  Candidate hostile = candidate();
  hostile.variant = "x\n{\"event\":\"load\"}\r\x1b[2J\xff" + std::string(100'000, 'y');
  const AuditLog audit = log();
  audit.refused(hostile, "TrustDenied", std::string(100'000, '\n'));
  const auto lines = lines_of(audit.path());
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["event"], "refuse");
  EXPECT_LE(std::filesystem::file_size(audit.path()), 4096U);
}

TEST_F(Audit, IsPrivateAndCanBeMovedOrTurnedOff) {
  const AuditLog audit = log();
  audit.refused(candidate(), "TrustDenied", "v1");
  struct stat status {};
  ASSERT_EQ(::stat(audit.path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  const AuditLog moved = log("audit = \"" + (directory_ / "other/a.jsonl").string() + "\"");
  moved.refused(candidate(), "TrustDenied", "v1");
  EXPECT_EQ(lines_of(directory_ / "other/a.jsonl").size(), 1U);
  log("audit = \"\"").refused(candidate(), "TrustDenied", "v1");
  EXPECT_EQ(lines_of(audit.path()).size(), 1U);
}

TEST_F(Audit, FailsALoadOnlyInStrictMode) {
  config_.state_dir = "/proc/kernelhub-audit";
  EXPECT_NO_THROW(log().refused(candidate(), "TrustDenied", "v1"));
  const AuditLog strict = log("mode = \"strict\"");
  EXPECT_EQ(code_of([&] { strict.refused(candidate(), "TrustDenied", "v1"); }),
            ErrorCode::kAuditFailed);
}

TEST_F(Audit, RotatesAFullFileAndKeepsFive) {
  const AuditLog audit = log();
  audit.refused(candidate(), "TrustDenied", "first");
  for (int round = 0; round < 7; ++round) {
    std::filesystem::resize_file(audit.path(), 10 << 20);
    audit.refused(candidate(), "TrustDenied", std::to_string(round));
    EXPECT_EQ(lines_of(audit.path()).size(), 1U);
  }
  for (int number = 1; number <= 5; ++number) {
    EXPECT_TRUE(std::filesystem::exists(audit.path().string() + "." + std::to_string(number)));
  }
  EXPECT_FALSE(std::filesystem::exists(audit.path().string() + ".6"));
}

TEST_F(Audit, KeepsLinesWholeUnderThreads) {
  const AuditLog audit = log();
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) audit.refused(candidate(), "TrustDenied", "v1");
    });
  }
  threads.clear();
  EXPECT_EQ(lines_of(audit.path()).size(), 200U);
}

}  // namespace
}  // namespace kernelhub::trust
