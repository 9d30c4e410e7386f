// SPDX-License-Identifier: Apache-2.0
#include "repo_store.h"

#include "expect_error.h"
#include "temp_directory.h"

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <random>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace kernelhub::server {
namespace {

constexpr std::int64_t kNow = 1'700'000'000;

class RepoStoreTest : public testing::Test {
 protected:
  RepoStoreTest() { repos_.create(repo_, false, "admin", "url"); }

  CommitChange put(const std::string& path, std::string_view content) {
    return {CommitChange::Kind::kPutFile, path, objects_.put(content)};
  }
  CommitHash commit(std::vector<CommitChange> changes, const std::string& parent = "") {
    return repos_.commit_changes(repo_, "main", {"title", "", parent, "admin", std::move(changes)});
  }
  CommitHash head() { return repos_.resolve(repo_, "main"); }

  TempDirectory folder_;
  ObjectStore objects_{folder_.path()};
  RepoStore repos_{folder_.path(), objects_, [] { return kNow; }};
  const RepoKey repo_{RepoType::kKernel, RepoId::parse("org/name")};
};

TEST_F(RepoStoreTest, StartsWithACommitOnMainThatHoldsGitattributes) {
  EXPECT_EQ(repos_.tree(repo_, head())->files.count(".gitattributes"), 1u);
  EXPECT_TRUE(repos_.commit(repo_, head()).parents.empty());
  EXPECT_EQ(code_of([&] { repos_.create(repo_, false, "admin", "url"); }), ErrorCode::kConflict);
}

TEST_F(RepoStoreTest, KeepsReposOfTheSameNameAndAnotherTypeApart) {
  const RepoKey model{RepoType::kModel, repo_.id};
  EXPECT_FALSE(repos_.info(model));
  repos_.create(model, true, "admin", "url");
  EXPECT_TRUE(repos_.info(model)->is_private);
  EXPECT_FALSE(repos_.info(repo_)->is_private);
}

TEST_F(RepoStoreTest, CommitsAllChangesOrNone) {
  const CommitHash before = head();
  EXPECT_EQ(code_of([&] {
              commit({put("a.txt", "a"), {CommitChange::Kind::kDeleteFile, "absent", {}}});
            }),
            ErrorCode::kEntryNotFound);
  EXPECT_EQ(head(), before);
  const CommitHash made = commit({put("a.txt", "a"), put("d/b.txt", "b")});
  EXPECT_EQ(head(), made);
  EXPECT_EQ(repos_.commit(repo_, made).parents, std::vector<CommitHash>{before});
}

TEST_F(RepoStoreTest, MakesNoCommitOfAnUnchangedTree) {
  const CommitHash made = commit({put("a.txt", "a")});
  EXPECT_EQ(commit({put("a.txt", "a")}), made);
  EXPECT_EQ(commit({{CommitChange::Kind::kDeleteFolder, "absent", {}}}), made);
}

TEST_F(RepoStoreTest, RefusesAParentThatIsNotTheHead) {
  const CommitHash first = head();
  const CommitHash second = commit({put("a.txt", "1")}, first.str().substr(0, 7));
  EXPECT_EQ(code_of([&] { commit({put("a.txt", "2")}, first.str()); }),
            ErrorCode::kPreconditionFailed);
  EXPECT_EQ(head(), second);
}

TEST_F(RepoStoreTest, RefusesAFileWhereAFolderIsAndTheReverse) {
  commit({put("d/b.txt", "b")});
  EXPECT_EQ(code_of([&] { commit({put("d", "x")}); }), ErrorCode::kBadRequest);
  EXPECT_EQ(code_of([&] { commit({put("d/b.txt/c", "x")}); }), ErrorCode::kBadRequest);
}

TEST_F(RepoStoreTest, DeletesFoldersWhole) {
  commit({put("d/b.txt", "b"), put("d/e/f.txt", "f"), put("dd.txt", "keep")});
  commit({{CommitChange::Kind::kDeleteFolder, "d", {}}});
  const auto tree = repos_.tree(repo_, head());
  EXPECT_EQ(tree->files.size(), 2u);
  EXPECT_EQ(tree->files.count("dd.txt"), 1u);
}

TEST_F(RepoStoreTest, ShowsLfsFilesByGitattributesOrSize) {
  commit({put("k.so", "elf"), put("a.txt", "a"), put("big.txt", std::string(1u << 20, 'x')),
          put("d/x.cubin", "c"), put("empty.so", "")});
  const auto files = repos_.tree(repo_, head())->files;
  EXPECT_TRUE(files.at("k.so").is_lfs);
  EXPECT_TRUE(files.at("big.txt").is_lfs);
  EXPECT_TRUE(files.at("d/x.cubin").is_lfs);
  EXPECT_FALSE(files.at("a.txt").is_lfs);
  EXPECT_FALSE(files.at("empty.so").is_lfs);
  commit({put(".gitattributes", "*.txt filter=lfs diff=lfs merge=lfs -text\n")});
  const auto later = repos_.tree(repo_, head())->files;
  EXPECT_FALSE(later.at("k.so").is_lfs);
  EXPECT_TRUE(later.at("a.txt").is_lfs);
}

TEST_F(RepoStoreTest, ResolvesBranchesFullRefsCommitsAndUniquePrefixes) {
  repos_.create_branch(repo_, "feature/x", "main");
  const CommitHash commit = head();
  for (const std::string& revision :
       {std::string("main"), std::string("refs/heads/main"), std::string("feature/x"),
        std::string("refs/heads/feature/x"), commit.str(), commit.str().substr(0, 8)}) {
    EXPECT_EQ(repos_.resolve(repo_, revision), commit) << revision;
  }
  for (const std::string& revision :
       {std::string("feature"), std::string("v1"), commit.str().substr(0, 6), std::string(40, '0'),
        std::string("../heads/main"), std::string("refs/tags/main"), std::string()}) {
    EXPECT_EQ(code_of([&] { repos_.resolve(repo_, revision); }), ErrorCode::kRevisionNotFound)
        << revision;
  }
}

TEST_F(RepoStoreTest, RefusesBranchNamesThatGitRefuses) {
  for (const char* name : {"", "a..b", "a b", "a~b", "a^b", "a:b", "a?", "a*", "a[", "a\\b", ".a",
                           "a/.b", "a.lock", "a/", "/a", "a//b", "refs/heads/a", "a@{b", "-a"}) {
    EXPECT_EQ(code_of([&] { check_branch_name(name); }), ErrorCode::kBadRequest) << name;
  }
  EXPECT_EQ(code_of([&] { repos_.create_branch(repo_, "main/x", "main"); }), ErrorCode::kConflict);
}

TEST_F(RepoStoreTest, DeletesABranchAndFreesItsFolderName) {
  repos_.create_branch(repo_, "a/b", "main");
  EXPECT_EQ(code_of([&] { repos_.create_branch(repo_, "a", "main"); }), ErrorCode::kConflict);
  repos_.delete_branch(repo_, "a/b");
  repos_.create_branch(repo_, "a", "main");
  EXPECT_EQ(code_of([&] { repos_.delete_branch(repo_, "main"); }), ErrorCode::kForbidden);
  EXPECT_EQ(code_of([&] { repos_.delete_branch(repo_, "gone"); }), ErrorCode::kRevisionNotFound);
  EXPECT_EQ(repos_.branches(repo_).size(), 2u);
}

// Writes commits until it is killed, and tells each one it acknowledged through the pipe.
[[noreturn]] void write_commits(const std::filesystem::path& root, const RepoKey& repo, int pipe) {
  const ObjectStore objects(root);
  const RepoStore repos(root, objects, [] { return kNow; });
  for (int i = 0;; ++i) {
    std::vector<CommitChange> changes;
    for (const char* path : {"a.txt", "b/b.txt", "b/c.so"}) {
      const std::string content =
          std::string(path) + std::to_string(::getpid()) + "." + std::to_string(i);
      changes.push_back({CommitChange::Kind::kPutFile, path, objects.put(content)});
    }
    const CommitHash made = repos.commit_changes(repo, "main", {"t", "", "", "w", changes});
    if (::write(pipe, made.str().data(), 40) != 40) ::_exit(1);
  }
}

TEST_F(RepoStoreTest, SurvivesKillOfItsWriterAtAnyPoint) {
  std::mt19937 random(7);
  std::uniform_int_distribution<int> microseconds(200, 30'000);
  for (int round = 0; round < 60; ++round) {
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    const pid_t child = ::fork();
    if (child == 0) write_commits(folder_.path(), repo_, pipe[1]);
    ::close(pipe[1]);
    std::this_thread::sleep_for(std::chrono::microseconds(microseconds(random)));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    std::string acknowledged;
    char id[40];
    while (::read(pipe[0], id, sizeof id) == sizeof id) acknowledged.assign(id, sizeof id);
    ::close(pipe[0]);

    // The head is whole: each of its files can be read and is what its id says.
    const CommitHash now = head();
    const auto tree = repos_.tree(repo_, now);
    for (const auto& [path, file] : tree->files) {
      EXPECT_EQ(digest_of_fd(DigestAlgorithm::kSha256, objects_.open(file.sha256).get()),
                file.sha256);
    }
    // The last acknowledged commit is the head or, if one more was made untold, its parent.
    if (!acknowledged.empty() && now.str() != acknowledged) {
      const Commit commit = repos_.commit(repo_, now);
      ASSERT_EQ(commit.parents.size(), 1u);
      EXPECT_EQ(commit.parents[0].str(), acknowledged);
    }
    EXPECT_EQ(repos_.branches(repo_).size(), 1u);
  }
}

TEST_F(RepoStoreTest, SerializesWritersAndNeverBlocksReaders) {
  constexpr int kWriters = 4;
  constexpr int kCommits = 10;
  std::vector<std::jthread> writers;
  for (int writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([this, writer] {
      for (int i = 0; i < kCommits; ++i) {
        commit({put("w" + std::to_string(writer) + "." + std::to_string(i), "x")});
      }
    });
  }
  for (int i = 0; i < 100; ++i) repos_.tree(repo_, head());
  writers.clear();
  EXPECT_EQ(repos_.tree(repo_, head())->files.size(), 1u + kWriters * kCommits);
}

}  // namespace
}  // namespace kernelhub::server
