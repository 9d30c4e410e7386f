// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/server/object_store.h"

#include "expect_error.h"
#include "temp_directory.h"

#include <gtest/gtest.h>

#include <fstream>

namespace kernelhub::server {
namespace {

namespace fs = std::filesystem;

TEST(ObjectStore, KeepsContentUnderItsSha256WithItsGitBlobId) {
  const TempDirectory folder;
  const ObjectStore store(folder.path());
  const StoredObject object = store.put("content");
  EXPECT_EQ(object.git_blob.hex(), "6b584e8ece562ebffc15d38808cd6b98fc3d97ea");
  EXPECT_EQ(object.sha256, digest_of(DigestAlgorithm::kSha256, "content"));
  const auto found = store.find(object.sha256);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->git_blob, object.git_blob);
  EXPECT_EQ(found->size_bytes, 7u);
  EXPECT_EQ(digest_of_fd(DigestAlgorithm::kSha256, store.open(object.sha256).get()), object.sha256);
}

TEST(ObjectStore, StoresOneContentOnce) {
  const TempDirectory folder;
  const ObjectStore store(folder.path());
  const fs::path file = folder.path() / "objects/sha256";
  store.put("same");
  const StoredObject again = store.put("same");
  const fs::path path = file / again.sha256.hex().substr(0, 2) / again.sha256.hex();
  EXPECT_TRUE(fs::exists(path));
  EXPECT_TRUE(fs::is_empty(folder.path() / "uploads"));
}

TEST(ObjectStore, LeavesNothingOfAnUnfinishedOrMismatchedUpload) {
  const TempDirectory folder;
  const ObjectStore store(folder.path());
  const Digest announced = digest_of(DigestAlgorithm::kSha256, "announced");
  { store.writer().write("half"); }
  EXPECT_TRUE(fs::is_empty(folder.path() / "uploads"));
  {
    ObjectStore::Writer writer = store.writer();
    writer.write("something");
    EXPECT_EQ(code_of([&] { writer.finish(announced, 9); }), ErrorCode::kBadRequest);
  }
  EXPECT_TRUE(fs::is_empty(folder.path() / "uploads"));
  EXPECT_FALSE(store.find(announced));
  EXPECT_FALSE(store.find(digest_of(DigestAlgorithm::kSha256, "something")));
}

TEST(ObjectStore, ReportsAnObjectCutShort) {
  const TempDirectory folder;
  const ObjectStore store(folder.path());
  const StoredObject object = store.put("whole content");
  const std::string hex = object.sha256.hex();
  fs::resize_file(folder.path() / "objects/sha256" / hex.substr(0, 2) / hex, 3);
  EXPECT_EQ(code_of([&] { store.find(object.sha256); }), ErrorCode::kStoreCorrupt);
}

TEST(ObjectStore, RemovesUploadsOfAKilledProcessAfterAnHour) {
  const TempDirectory folder;
  fs::create_directories(folder.path() / "uploads");
  for (const char* name : {"old", "new"}) std::ofstream(folder.path() / "uploads" / name) << "x";
  fs::last_write_time(folder.path() / "uploads/old",
                      fs::file_time_type::clock::now() - std::chrono::hours(2));
  const ObjectStore store(folder.path());
  EXPECT_FALSE(fs::exists(folder.path() / "uploads/old"));
  EXPECT_TRUE(fs::exists(folder.path() / "uploads/new"));
}

}  // namespace
}  // namespace kernelhub::server
