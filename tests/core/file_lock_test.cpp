// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/file_lock.h"

#include "expect_error.h"
#include "temp_directory.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace kernelhub {
namespace {

using std::chrono::milliseconds;

TEST(FileLock, LetsOneHolderInAtATime) {
  const TempDirectory directory;
  std::atomic<int> inside{0};
  std::atomic<int> worst{0};
  int counter = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 25; ++round) {
        const FileLock lock(directory / "lock");
        worst = std::max(worst.load(), ++inside);
        ++counter;
        --inside;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(worst, 1);
  EXPECT_EQ(counter, 100);
}

TEST(FileLock, TimesOutNamingFileAndHolder) {
  const TempDirectory directory;
  const FileLock held(directory / "lock");
  const Error error = error_of([&] { FileLock(directory / "lock", milliseconds(5)); });
  EXPECT_EQ(error.code(), ErrorCode::kLockTimeout);
  EXPECT_NE(error.details().find((directory / "lock").string()), std::string::npos);
  EXPECT_NE(error.details().find("\"pid\":\"" + std::to_string(::getpid()) + "\""),
            std::string::npos);
}

TEST(FileLock, StopsWaitingWhenCancelled) {
  const TempDirectory directory;
  const FileLock held(directory / "lock");
  EXPECT_EQ(
      code_of([&] { FileLock(directory / "lock", std::chrono::minutes(1), [] { return true; }); }),
      ErrorCode::kCancelled);
}

TEST(FileLock, ReopensAFileThatItsHolderDeleted) {
  const TempDirectory directory;
  std::jthread waiter;
  std::atomic<bool> got{false};
  {
    const FileLock held(directory / "lock");
    waiter = std::jthread([&] {
      const FileLock second(directory / "lock");
      got = std::filesystem::exists(directory / "lock") && second.is_held();
    });
    std::this_thread::sleep_for(milliseconds(10));
    std::filesystem::remove(directory / "lock");
  }
  waiter.join();
  EXPECT_TRUE(got);
}

TEST(FileLock, MakesAFileThatTheGroupMayLock) {
  const TempDirectory directory;
  const mode_t before = ::umask(0077);
  const FileLock lock(directory / "lock");
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat((directory / "lock").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0664U);
}

TEST(FileLock, DoesNotFollowALink) {
  const TempDirectory directory;
  std::filesystem::create_symlink(directory / "elsewhere", directory / "lock");
  EXPECT_TRUE(code_of([&] { FileLock(directory / "lock"); }).has_value());
  EXPECT_FALSE(std::filesystem::exists(directory / "elsewhere"));
}

}  // namespace
}  // namespace kernelhub
