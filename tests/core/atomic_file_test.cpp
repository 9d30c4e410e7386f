// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/atomic_file.h"

#include "expect_error.h"
#include "temp_directory.h"

#include <gtest/gtest.h>

#include <sys/stat.h>

namespace kernelhub {
namespace {

std::ptrdiff_t entries(const std::filesystem::path& directory) {
  return std::distance(std::filesystem::directory_iterator(directory), {});
}

TEST(AtomicFile, ReplacesTheTargetOnCommitOnly) {
  const TempDirectory directory;
  const auto target = directory.write("state", "old");
  {
    AtomicFile file(target);
    file.write("new");
    EXPECT_EQ(read_file(target), "old");
    file.commit(true);
  }
  EXPECT_EQ(read_file(target), "new");
  EXPECT_EQ(entries(directory.path()), 1);
}

TEST(AtomicFile, LeavesNothingBehindWithoutCommit) {
  const TempDirectory directory;
  { AtomicFile(directory / "state").write("half"); }
  EXPECT_EQ(entries(directory.path()), 0);
}

TEST(AtomicFile, GivesTheAskedModeWhateverTheUmask) {
  const TempDirectory directory;
  const mode_t before = ::umask(0077);
  write_file_atomically(directory / "shared", "x", 0664);
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat((directory / "shared").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0664U);
}

TEST(AtomicFile, FailsInAMissingDirectory) {
  const TempDirectory directory;
  EXPECT_EQ(code_of([&] { AtomicFile(directory / "no/state"); }), ErrorCode::kIo);
}

TEST(AtomicFile, FailsWhereNoFileCanBeMade) {
  EXPECT_EQ(code_of([] { write_file_atomically("/dev/full/x", "x"); }), ErrorCode::kIo);
  EXPECT_EQ(code_of([] { write_file_atomically("/proc/kernelhub", "x"); }), ErrorCode::kIo);
}

TEST(ReadFile, ReturnsEveryByte) {
  const TempDirectory directory;
  std::string content(300'000, 'a');
  content[77] = '\0';
  EXPECT_EQ(read_file(directory.write("f", content)), content);
}

TEST(ReadFile, RefusesMoreThanTheLimitAndTakesExactlyIt) {
  const TempDirectory directory;
  const auto file = directory.write("f", "12345");
  EXPECT_EQ(read_file(file, 5), "12345");
  EXPECT_EQ(code_of([&] { read_file(file, 4); }), ErrorCode::kInvalidArgument);
}

TEST(ReadFile, DoesNotHangOnAFifoNorReadAFolder) {
  const TempDirectory directory;
  ASSERT_EQ(::mkfifo((directory / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(code_of([&] { read_file(directory / "fifo"); }), ErrorCode::kIo);
  EXPECT_EQ(code_of([&] { read_file(directory.path()); }), ErrorCode::kIo);
  EXPECT_EQ(code_of([&] { read_file(directory / "none"); }), ErrorCode::kIo);
}

}  // namespace
}  // namespace kernelhub
