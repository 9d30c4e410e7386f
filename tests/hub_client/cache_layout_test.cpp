// SPDX-License-Identifier: Apache-2.0
#include "cache_layout.h"

#include "expect_error.h"
#include "hub_on_loopback.h"

#include <sys/stat.h>

namespace kernelhub::hub {
namespace {

namespace fs = std::filesystem;

class CacheLayoutTest : public testing::Test {
 protected:
  TemporaryFolder folder_;
  const CacheLayout cache_{folder_.path() / "hub"};
  const RepoId repo_ = RepoId::parse("org/tk");
  const CommitHash commit_ = CommitHash::parse(std::string(40, 'c'));
};

TEST_F(CacheLayoutTest, UsesTheFoldersOfThePythonClient) {
  EXPECT_EQ(cache_.blob(repo_, "e"), cache_.root() / "kernels--org--tk/blobs/e");
  EXPECT_EQ(cache_.lock(repo_, "e"), cache_.root() / ".locks/kernels--org--tk/e.lock");
  EXPECT_EQ(cache_.snapshot(repo_, commit_),
            cache_.root() / "kernels--org--tk/snapshots" / commit_.str());
}

TEST_F(CacheLayoutTest, ReadsBackARefOfFortyDigitsWithoutNewline) {
  EXPECT_EQ(cache_.read_ref(repo_, "v1"), std::nullopt);
  cache_.write_ref(repo_, "v1", commit_);
  cache_.write_ref(repo_, "feature/x", commit_);
  EXPECT_EQ(content_of(cache_.ref(repo_, "v1")), commit_.str());
  EXPECT_EQ(cache_.read_ref(repo_, "v1"), commit_);
  EXPECT_EQ(cache_.read_ref(repo_, "feature/x"), commit_);
}

TEST_F(CacheLayoutTest, CallsAnEmptyRefCorrupt) {
  write_content(cache_.ref(repo_, "v1"), "");
  EXPECT_EQ(code_of([&] { cache_.read_ref(repo_, "v1"); }), ErrorCode::kCacheCorrupt);
  write_content(cache_.ref(repo_, "v1"), commit_.str() + "\n");
  EXPECT_EQ(cache_.read_ref(repo_, "v1"), commit_);
}

TEST_F(CacheLayoutTest, ListsCachedVersionsAsNumbers) {
  for (const char* name : {"v10", "v2", "main", "v1x"}) cache_.write_ref(repo_, name, commit_);
  EXPECT_EQ(cache_.cached_versions(repo_), (std::vector<std::int64_t>{2, 10}));
}

TEST_F(CacheLayoutTest, LinksRelativelyAndReplacesAWrongEntry) {
  cache_.prepare_for_writing(repo_);
  const fs::path blob = cache_.blob(repo_, "e");
  write_content(blob, "abc");
  const fs::path pointer = cache_.snapshot(repo_, commit_) / "build/x/f";
  cache_.prepare_pointer(repo_, commit_, pointer);
  fs::create_symlink("../wrong", pointer);
  EXPECT_EQ(CacheLayout::inspect(pointer, 3), FileState::kDamaged);
  EXPECT_TRUE(CacheLayout::link_pointer(pointer, blob));
  EXPECT_EQ(fs::read_symlink(pointer), "../../../../blobs/e");
  EXPECT_EQ(CacheLayout::inspect(pointer, 3), FileState::kPresent);
  EXPECT_EQ(CacheLayout::inspect(pointer, 4), FileState::kDamaged);
  fs::remove(pointer);
  EXPECT_EQ(CacheLayout::inspect(pointer, 3), FileState::kAbsent);
  fs::create_directory(pointer);
  EXPECT_TRUE(CacheLayout::link_pointer(pointer, blob));
  EXPECT_EQ(content_of(pointer), "abc");
}

TEST_F(CacheLayoutTest, RefusesAParentThatLeadsOutOfTheSnapshot) {
  cache_.prepare_for_writing(repo_);
  const fs::path snapshot = cache_.snapshot(repo_, commit_);
  fs::create_directories(snapshot);
  fs::create_directories(folder_.path() / "elsewhere");
  fs::create_directory_symlink(folder_.path() / "elsewhere", snapshot / "build");
  EXPECT_EQ(code_of([&] { cache_.prepare_pointer(repo_, commit_, snapshot / "build/f"); }),
            ErrorCode::kCacheCorrupt);
  EXPECT_NO_THROW(cache_.prepare_pointer(repo_, commit_, snapshot / "other/f"));
  EXPECT_NO_THROW(cache_.prepare_pointer(repo_, commit_, snapshot / "README.md"));
}

TEST_F(CacheLayoutTest, NamesNeedAndFreeBytesOfAFullDisk) {
  cache_.prepare_for_writing(repo_);
  EXPECT_EQ(code_of([&] { cache_.check_space(std::uint64_t{1} << 62); }), ErrorCode::kDiskFull);
  EXPECT_NO_THROW(cache_.check_space(1));
}

TEST_F(CacheLayoutTest, TakesTheModeOfSharedFilesFromTheUmask) {
  const mode_t umask_now = umask(0);
  umask(umask_now);
  EXPECT_EQ(shared_file_mode(), 0666U & ~umask_now);
}

}  // namespace
}  // namespace kernelhub::hub
