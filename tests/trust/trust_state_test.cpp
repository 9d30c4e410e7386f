// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/trust/trust_state.h"

#include "expect_error.h"
#include "temp_directory.h"

#include "kernelhub/core/atomic_file.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace kernelhub::trust {
namespace {

constexpr const char* kHub = "https://huggingface.co";
const CommitHash kCommit = CommitHash::parse(std::string(40, 'a'));
const CommitHash kOther = CommitHash::parse(std::string(40, 'b'));
const RepoId kRepo = RepoId::parse("org/relu");

TEST(TrustState, RemembersDecisionsPerEndpointRepoAndCommit) {
  const TempDirectory directory;
  const TrustState state(directory / "state");
  EXPECT_FALSE(state.is_recorded(kHub, kRepo, kCommit));
  TrustState(directory / "state").record_decision(kHub, kRepo, kCommit, 1, "publisher");
  EXPECT_TRUE(state.is_recorded(kHub, kRepo, kCommit));
  EXPECT_TRUE(state.is_recorded("HTTPS://huggingface.co/", kRepo, kCommit));
  EXPECT_FALSE(state.is_recorded(kHub, kRepo, kOther));
  EXPECT_FALSE(state.is_recorded("http://127.0.0.1:1", kRepo, kCommit));
  EXPECT_FALSE(state.is_recorded(kHub, RepoId::parse("org/gelu"), kCommit));
}

TEST(TrustState, RemembersPublisherAnswersWithTheirTime) {
  const TempDirectory directory;
  TrustState state(directory / "state");
  EXPECT_FALSE(state.publisher(kHub, "org"));
  state.record_publisher(kHub, "org", true);
  state.record_publisher(kHub, "bad", false);
  const auto age = std::chrono::system_clock::now() - state.publisher(kHub, "org")->asked;
  EXPECT_TRUE(state.publisher(kHub, "org")->trusted);
  EXPECT_LT(age, std::chrono::minutes(1));
  EXPECT_FALSE(state.publisher(kHub, "bad")->trusted);
  EXPECT_FALSE(state.publisher("http://127.0.0.1:1", "org"));
}

TEST(TrustState, KeepsTheHighestVersion) {
  const TempDirectory directory;
  TrustState state(directory / "state");
  state.record_decision(kHub, kRepo, kCommit, 3, "explicit");
  state.record_decision(kHub, kRepo, kOther, 2, "explicit");
  const auto json = nlohmann::json::parse(read_file(state.path()));
  EXPECT_EQ(json["endpoints"][kHub]["repos"]["org/relu"]["highest_version"], 3);
}

TEST(TrustState, IsPrivate) {
  const TempDirectory directory;
  TrustState state(directory / "state");
  state.record_publisher(kHub, "org", true);
  struct stat status {};
  ASSERT_EQ(::stat(state.path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  ASSERT_EQ(::stat((directory / "state").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0700U);
}

TEST(TrustState, StartsEmptyWhenTheFileIsInDoubt) {
  const TempDirectory directory;
  TrustState state(directory / "state");
  state.record_publisher(kHub, "org", true);
  const std::string good = read_file(state.path());
  for (const std::string& bad :
       {std::string("{"), std::string("[]"), std::string("{\"format\":2}"),
        std::string("{\"format\":1,\"endpoints\":[]}"), good.substr(0, good.size() / 2)}) {
    write_file_atomically(state.path(), bad, 0600);
    EXPECT_FALSE(state.publisher(kHub, "org")) << bad;
    EXPECT_FALSE(state.is_recorded(kHub, kRepo, kCommit)) << bad;
  }
  write_file_atomically(state.path(), good, 0666);
  EXPECT_FALSE(state.publisher(kHub, "org"));
  write_file_atomically(state.path(), good, 0600);
  EXPECT_TRUE(state.publisher(kHub, "org"));
  std::filesystem::rename(state.path(), directory / "real");
  std::filesystem::create_symlink(directory / "real", state.path());
  EXPECT_FALSE(state.publisher(kHub, "org"));
}

TEST(TrustState, RepairsADamagedFileOnTheNextRecord) {
  const TempDirectory directory;
  TrustState state(directory / "state");
  directory.write("state/trust-state.json", "{\"format\":1,\"endpoints\":{\"x\":3}} trailing");
  state.record_decision(kHub, kRepo, kCommit, std::nullopt, "explicit");
  EXPECT_TRUE(state.is_recorded(kHub, kRepo, kCommit));
}

TEST(TrustState, DoesNotThrowOnRecordsOfAnotherShape) {
  const TempDirectory directory;
  TrustState state(directory / "state");
  std::filesystem::create_directory(directory / "state");
  write_file_atomically(
      state.path(),
      R"({"format":1,"endpoints":{"https://huggingface.co":{"publishers":[1],"repos":7}}})", 0600);
  EXPECT_FALSE(state.publisher(kHub, "org"));
  state.record_publisher(kHub, "org", true);
  state.record_decision(kHub, kRepo, kCommit, 1, "explicit");
  EXPECT_TRUE(state.is_recorded(kHub, kRepo, kCommit));
}

TEST(TrustState, DropsAnswersFromTheFuture) {
  const TempDirectory directory;
  TrustState state(directory / "state");
  state.record_publisher(kHub, "org", true);
  auto json = nlohmann::json::parse(read_file(state.path()));
  json["endpoints"][kHub]["publishers"]["org"]["asked"] = 32503680000;
  write_file_atomically(state.path(), json.dump(), 0600);
  EXPECT_FALSE(state.publisher(kHub, "org"));
}

TEST(TrustState, OnlyForgetsWhenItCannotBeWritten) {
  TrustState state("/proc/kernelhub-state");
  state.record_publisher(kHub, "org", true);
  state.record_decision(kHub, kRepo, kCommit, 1, "explicit");
  EXPECT_FALSE(state.publisher(kHub, "org"));
}

TEST(TrustState, LosesNoRecordOfConcurrentThreadsAndProcesses) {
  const TempDirectory directory;
  constexpr int kWriters = 4;
  constexpr int kRecords = 8;
  const auto record = [&](const std::string& who) {
    TrustState state(directory / "state");
    for (int i = 0; i < kRecords; ++i) state.record_publisher(kHub, who + std::to_string(i), true);
  };
  const pid_t child = ::fork();
  if (child == 0) {
    record("child");
    ::_exit(0);
  }
  std::vector<std::jthread> threads;
  for (int t = 0; t < kWriters; ++t) {
    threads.emplace_back([&, t] { record("t" + std::to_string(t) + "-"); });
  }
  threads.clear();
  int status = 1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  const auto json = nlohmann::json::parse(read_file(directory / "state/trust-state.json"));
  EXPECT_EQ(json["endpoints"][kHub]["publishers"].size(), (kWriters + 1U) * kRecords);
}

}  // namespace
}  // namespace kernelhub::trust
