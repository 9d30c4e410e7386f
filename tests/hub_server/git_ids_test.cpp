// SPDX-License-Identifier: Apache-2.0
#include "git_ids.h"

#include <gtest/gtest.h>

namespace kernelhub::server {
namespace {

TreeFile file_of(std::string_view content, bool is_lfs = false) {
  Hasher git = Hasher::git_blob(content.size());
  git.update(content);
  return {content.size(), git.finish(), digest_of(DigestAlgorithm::kSha256, content), is_lfs};
}

// Expected ids: git hash-object, git write-tree and git commit-tree over the same files.
TEST(GitIds, OfTheEmptyTreeIsTheOneGitKnows) {
  EXPECT_EQ(folder_ids({}).at("").hex(), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
}

TEST(GitIds, SortFoldersAsIfTheirNameEndedInASlash) {
  const auto ids = folder_ids({{"a.txt", file_of("a\n")},
                               {"a/x.txt", file_of("x\n")},
                               {"a/y/z.txt", file_of("")},
                               {"b.txt", file_of("b\n")}});
  EXPECT_EQ(ids.at("a/y").hex(), "b39a71f32278e7805a8c00d12249177c59c8ec3c");
  EXPECT_EQ(ids.at("a").hex(), "29b44097d8a8a68cb034482019c17f13c020e377");
  EXPECT_EQ(ids.at("").hex(), "ae473685b829884b233725b57ae65c204db76310");
  EXPECT_EQ(ids.size(), 3u);
}

TEST(GitIds, ShowAnLfsFileByItsPointer) {
  const TreeFile plain = file_of("content");
  const TreeFile lfs = file_of("content", true);
  EXPECT_EQ(listed_blob(plain).hex(), "6b584e8ece562ebffc15d38808cd6b98fc3d97ea");
  EXPECT_EQ(lfs_pointer(lfs.sha256, lfs.size_bytes),
            "version https://git-lfs.github.com/spec/v1\n"
            "oid sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73\n"
            "size 7\n");
  EXPECT_EQ(listed_blob(lfs).hex(), "2bb9b0b519bdfd58403321e4e415e9cc63c80e83");
}

TEST(GitIds, OfACommitCoversTreeParentsAuthorTimeAndMessage) {
  const Digest tree = folder_ids({{"a.txt", file_of("a\n")}}).at("");
  const CommitHash first = commit_id(tree, {}, "admin", 1700000000, "first\n");
  EXPECT_EQ(first.str(), "573e431f1cd819bfde0ae3d554fc1447d85cf3e0");
  EXPECT_EQ(commit_id(tree, {first}, "admin", 1700000001, "second\n\nbody\n").str(),
            "adb15ee1a9aeba13e6cfce7631c470e4530ff464");
}

}  // namespace
}  // namespace kernelhub::server
