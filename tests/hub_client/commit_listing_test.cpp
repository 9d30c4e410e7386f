// SPDX-License-Identifier: Apache-2.0
#include "commit_listing.h"

#include <gtest/gtest.h>

namespace kernelhub::hub {
namespace {

const RepoId kRepo = RepoId::parse("org/tk");
const CommitHash kCommit = CommitHash::parse(std::string(40, 'c'));

TreeFile file(const std::string& path, std::uint64_t size_bytes = 1) {
  return {path, size_bytes, std::string(40, 'a'), ""};
}

TEST(CommitListing, KnowsOnlyWhatWasListed) {
  CommitListing listing;
  listing.add_folder("build", {{}, {"build/x", "build/y"}});
  listing.add_recursive("build/x", {{file("build/x/a"), file("build/x/sub/b")}, {}});
  EXPECT_EQ(listing.folder("build")->directories, (std::vector<std::string>{"build/x", "build/y"}));
  EXPECT_EQ(listing.recursive("build/x")->files.size(), 2u);
  EXPECT_EQ(listing.recursive("build/x/sub")->files.size(), 1u);
  EXPECT_EQ(listing.folder("build/x")->directories, std::vector<std::string>{"build/x/sub"});
  EXPECT_FALSE(listing.recursive("build/y"));
  EXPECT_FALSE(listing.recursive("build"));
  EXPECT_FALSE(listing.recursive("build/xx"));
  EXPECT_FALSE(listing.folder(""));
}

TEST(CommitListing, SurvivesTheSidecar) {
  CommitListing listing;
  listing.add_folder("build", {{}, {"build/x"}});
  TreeFile lfs = file("build/x/a.so", 1u << 31);
  lfs.lfs_sha256 = std::string(64, 'd');
  listing.add_recursive("build/x", {{lfs, file("build/x/b")}, {}});
  const std::string json = sidecar_to_json(kRepo, kCommit, listing);
  const auto read = parse_sidecar(json, "sidecar", kRepo, kCommit);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->folder("build")->directories, std::vector<std::string>{"build/x"});
  EXPECT_EQ(read->files().at("build/x/a.so").etag(), lfs.lfs_sha256);
  EXPECT_EQ(read->files().at("build/x/a.so").size_bytes, 1u << 31);
  EXPECT_EQ(sidecar_to_json(kRepo, kCommit, *read), json);
}

TEST(CommitListing, IgnoresADamagedNewerOrForeignSidecar) {
  const std::string good = sidecar_to_json(kRepo, kCommit, CommitListing());
  EXPECT_TRUE(parse_sidecar(good, "sidecar", kRepo, kCommit));
  EXPECT_FALSE(parse_sidecar(good.substr(0, good.size() / 2), "sidecar", kRepo, kCommit));
  EXPECT_FALSE(parse_sidecar("", "sidecar", kRepo, kCommit));
  std::string newer = good;
  newer.replace(newer.find("\"format\": 1"), 11, "\"format\": 2");
  EXPECT_FALSE(parse_sidecar(newer, "sidecar", kRepo, kCommit));
  EXPECT_FALSE(parse_sidecar(good, "sidecar", RepoId::parse("org/other"), kCommit));
  EXPECT_FALSE(parse_sidecar(good, "sidecar", kRepo, CommitHash::parse(std::string(40, 'e'))));
}

TEST(CommitListing, IgnoresASidecarWithUnsafePathsOrIds) {
  CommitListing unsafe;
  unsafe.add_recursive("build", {{file("build/../../x")}, {}});
  EXPECT_FALSE(parse_sidecar(sidecar_to_json(kRepo, kCommit, unsafe), "sidecar", kRepo, kCommit));
  CommitListing bad_id;
  TreeFile entry = file("build/x");
  entry.git_oid = "../../../etc";
  bad_id.add_recursive("build", {{entry}, {}});
  EXPECT_FALSE(parse_sidecar(sidecar_to_json(kRepo, kCommit, bad_id), "sidecar", kRepo, kCommit));
}

TEST(CommitListing, ReadsThePythonTreeAsTheWholeRepository) {
  const auto listing = parse_python_tree(
      R"({"format_version":1,"files":{"README.md":{"size":5,"blob_id":")" + std::string(40, 'a') +
          R"("},"build/x/a.so":{"size":7,"blob_id":")" + std::string(40, 'b') +
          R"(","lfs_sha256":")" + std::string(64, 'c') + R"(","lfs_size":7,"xet_hash":null}}})",
      "trees");
  ASSERT_TRUE(listing);
  EXPECT_EQ(listing->folder("build")->directories, std::vector<std::string>{"build/x"});
  EXPECT_EQ(listing->recursive("build/x")->files[0].etag(), std::string(64, 'c'));
  EXPECT_FALSE(parse_python_tree(R"({"format_version":2,"files":{}})", "trees"));
}

}  // namespace
}  // namespace kernelhub::hub
