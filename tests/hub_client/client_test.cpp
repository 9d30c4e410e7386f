// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/hub/client.h"

#include "expect_error.h"
#include "hub_on_loopback.h"

#include <atomic>
#include <thread>

namespace kernelhub::hub {
namespace {

using server::FaultKind;

class ClientTest : public HubOnLoopback {};

TEST_F(ClientTest, ResolvesVersionsBranchesAndCommits) {
  const CommitHash v1 = publish_kernel();
  const CommitHash v2 = publish({{"build/torch-cpu/metadata.json", "{}"}}, "v2");
  Client reader = client();
  const ResolvedKernel by_version = reader.resolve(repo_, KernelSpec::of_version(1));
  EXPECT_EQ(by_version.pinned.commit, v1);
  EXPECT_EQ(by_version.pinned.version, 1);
  EXPECT_EQ(by_version.versions, (std::vector<std::int64_t>{1, 2}));
  EXPECT_FALSE(by_version.from_cache);
  EXPECT_EQ(reader.resolve(repo_, KernelSpec::of_revision("v2")).pinned.commit, v2);
  const auto asked = reader.request_count();
  EXPECT_EQ(reader.resolve(repo_, KernelSpec::of_revision(v2.str())).pinned.commit, v2);
  EXPECT_EQ(reader.request_count(), asked);
}

TEST_F(ClientTest, NamesTheVersionsThereAre) {
  publish_kernel();
  Client reader = client();
  const Error error = error_of([&] { reader.resolve(repo_, KernelSpec::of_version(7)); });
  EXPECT_EQ(error.code(), ErrorCode::kVersionNotFound);
  EXPECT_NE(error.details().find(R"("versions":"1")"), std::string::npos) << error.details();
}

TEST_F(ClientTest, TellsTheNotFoundsApart) {
  publish_kernel();
  Client reader = client();
  EXPECT_EQ(
      code_of([&] { reader.resolve(RepoId::parse("org/absent"), KernelSpec::of_version(1)); }),
      ErrorCode::kRepoNotFound);
  EXPECT_EQ(code_of([&] { reader.resolve(repo_, KernelSpec::of_revision("nowhere")); }),
            ErrorCode::kRevisionNotFound);
  const auto main = reader.resolve(repo_, KernelSpec::of_revision("main")).pinned.commit;
  EXPECT_EQ(code_of([&] { reader.list_variants(repo_, main); }), ErrorCode::kNoKernelBuilds);
  EXPECT_EQ(code_of([&] { reader.list_recursive(repo_, main, "build/x"); }),
            ErrorCode::kEntryNotFound);
  EXPECT_EQ(transport_->wait_count(), 0u);
}

TEST_F(ClientTest, ListsVariantsAndTheirFiles) {
  const CommitHash commit = publish_kernel();
  Client reader = client();
  EXPECT_EQ(reader.list_variants(repo_, commit), (std::vector<std::string>{"torch-cpu", kVariant}));
  const auto files = list_variant_files(reader, pinned(commit), kVariant);
  ASSERT_EQ(files.size(), 4u);
  const auto so = std::find_if(files.begin(), files.end(),
                               [](const TreeFile& file) { return file.path.ends_with("_tk.so"); });
  EXPECT_EQ(so->size_bytes, big_.size());
  EXPECT_EQ(so->lfs_sha256, digest_of(DigestAlgorithm::kSha256, big_).hex());
}

TEST_F(ClientTest, LeavesBytecodeOut) {
  const CommitHash commit = publish({{"build/x/__init__.py", "1"},
                                     {"build/x/__pycache__/a.cpython-311.pyc", "2"},
                                     {"build/x/sub/b.pyc", "3"}});
  Client reader = client();
  const auto files = list_variant_files(reader, pinned(commit), "x");
  ASSERT_EQ(files.size(), 1u);
  EXPECT_EQ(files[0].path, "build/x/__init__.py");
}

TEST_F(ClientTest, FollowsTheListingOverSeveralPages) {
  std::map<std::string, std::string> files;
  for (int i = 0; i < 1203; ++i) files["build/x/" + std::to_string(i)] = std::to_string(i);
  const CommitHash commit = publish(files);
  Client reader = client();
  EXPECT_EQ(reader.list_recursive(repo_, commit, "build/x").files.size(), 1203u);
  EXPECT_EQ(reader.request_count(), 2u);
}

TEST_F(ClientTest, SaysWhetherAPublisherIsTrustedOrCouldNotBeAsked) {
  publish_kernel();
  Client reader = client();
  EXPECT_TRUE(reader.publisher("org").trusted);
  EXPECT_EQ(reader.publisher("org").error, "");
  const Publisher unknown = reader.publisher("nobody");
  EXPECT_FALSE(unknown.trusted);
  EXPECT_NE(unknown.error, "");
}

TEST_F(ClientTest, RetriesAServerThatIsBusy) {
  publish_kernel();
  server_.faults().add({.kind = FaultKind::kStatus, .path_contains = "/refs", .times = 3});
  // libcurl itself repeats a request once when a kept connection turns out to be dead.
  server_.faults().add({.kind = FaultKind::kDrop, .path_contains = "/refs", .times = 2});
  Client reader = client();
  EXPECT_EQ(reader.list_versions(repo_), std::vector<std::int64_t>{1});
  EXPECT_EQ(reader.request_count(), 5u);
  EXPECT_EQ(transport_->wait_count(), 4u);
}

TEST_F(ClientTest, FallsBackToTheCachedRefAtOnceAndSaysWhy) {
  const CommitHash commit = publish_kernel();
  Client reader = client();
  fetch(reader);
  server_.faults().add({.kind = FaultKind::kStatus, .path_contains = "/refs", .times = 99});
  const auto asked = reader.request_count();
  const ResolvedKernel resolved = reader.resolve(repo_, KernelSpec::of_version(1));
  EXPECT_EQ(resolved.pinned.commit, commit);
  EXPECT_TRUE(resolved.from_cache);
  EXPECT_NE(resolved.cache_reason.find("503"), std::string::npos) << resolved.cache_reason;
  EXPECT_EQ(reader.request_count(), asked + 1);
  EXPECT_EQ(transport_->wait_count(), 0u);
}

TEST_F(ClientTest, FallsBackWhenNobodyListens) {
  publish_kernel();
  Client reader = client();
  fetch(reader);
  server_.stop();
  EXPECT_TRUE(reader.resolve(repo_, KernelSpec::of_version(1)).from_cache);
  EXPECT_EQ(code_of([&] { reader.resolve(repo_, KernelSpec::of_version(2)); }),
            ErrorCode::kNetwork);
}

TEST_F(ClientTest, StopsWaitingForASilentServer) {
  publish_kernel();
  server_.faults().add({.kind = FaultKind::kStall,
                        .path_contains = "/refs",
                        .times = 9,
                        .stall = std::chrono::milliseconds(2000)});
  Config impatient = config();
  impatient.metadata_timeout = std::chrono::milliseconds(150);
  impatient.retries = 1;
  Client reader = client(impatient);
  EXPECT_EQ(code_of([&] { reader.list_versions(repo_); }), ErrorCode::kTimeout);
  EXPECT_EQ(reader.request_count(), 2u);
}

TEST_F(ClientTest, CallsALoopARefusedRedirect) {
  server_.faults().add({.kind = FaultKind::kRedirect,
                        .path_contains = "/refs",
                        .times = 99,
                        .location = "/api/kernels/org/tk/refs"});
  Client reader = client();
  EXPECT_EQ(code_of([&] { reader.list_versions(repo_); }), ErrorCode::kRedirectRefused);
}

TEST_F(ClientTest, NeverShowsItsTokenToAnotherOrigin) {
  const CommitHash commit = publish_kernel();
  server::HubServer storage({.store = folder_.path() / "storage"});
  storage.start();
  const std::string path = std::string("/kernels/org/tk/resolve/") + commit.str() + "/README.md";
  server_.faults().add({.kind = FaultKind::kRedirect,
                        .path_contains = "README.md",
                        .location = storage.url() + path + "?signature=1"});
  Client reader = client(writer_config());
  // The other server knows no such repository; what counts is what it saw.
  EXPECT_EQ(code_of([&] { reader.read_file_at(repo_, commit.str(), "README.md", 1000); }),
            ErrorCode::kRepoNotFound);
  ASSERT_EQ(storage.requests().size(), 1u);
  EXPECT_FALSE(storage.requests()[0].has_authorization);
  EXPECT_EQ(storage.requests()[0].query, "signature=1");
  EXPECT_TRUE(server_.requests().back().has_authorization);
}

TEST_F(ClientTest, ReadsAFileOfABranchOrSaysItIsAbsent) {
  publish_kernel();
  Client reader = client();
  EXPECT_EQ(reader.read_file_at(repo_, "v1", "README.md", 1000), "# tk\n");
  EXPECT_EQ(reader.read_file_at(repo_, "v1", "absent", 1000), std::nullopt);
}

TEST_F(ClientTest, RunsManyThreadsOnOneClient) {
  publish_kernel();
  Client reader = client();
  std::vector<std::jthread> threads;
  std::atomic<int> right{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int turn = 0; turn < 5; ++turn) {
        right += reader.list_versions(repo_) == std::vector<std::int64_t>{1};
      }
    });
  }
  threads.clear();
  EXPECT_EQ(right, 40);
}

}  // namespace
}  // namespace kernelhub::hub
