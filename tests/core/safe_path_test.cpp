// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/safe_path.h"

#include "expect_error.h"
#include "temp_directory.h"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <filesystem>
#include <random>
#include <string>
#include <unistd.h>

namespace kernelhub {
namespace {

TEST(SafeRelPath, TakesOrdinaryNames) {
  for (const char* text :
       {"a", "a/b.py", ".hidden", ".pyc", "A b.txt", "layers/__init__.py", "sub/a-b/x",
        "\xC3\xA9/\xE6\xBC\xA2", "a..b", "...a", "console", "com10"}) {
    EXPECT_TRUE(SafeRelPath::is_safe(text)) << text;
    EXPECT_EQ(SafeRelPath::parse(text, "test").str(), text);
  }
  EXPECT_TRUE(SafeRelPath::is_safe(std::string(255, 'a')));
}

TEST(SafeRelPath, RefusesWhatCouldLeaveTheRoot) {
  std::string deep = "a";
  for (int i = 0; i < 16; ++i) deep += "/a";
  const std::string cases[] = {"",
                               "/",
                               "/etc/passwd",
                               "..",
                               "a/..",
                               "a/../b",
                               "./a",
                               "a/.",
                               "a//b",
                               "a/",
                               "a\\b",
                               "..\\b",
                               "C:/x",
                               "c:x",
                               std::string("a\0b", 3),
                               "a\nb",
                               "a\x7f",
                               "a\x1b[0m",
                               "a.",
                               "a /b",
                               "a./b",
                               "CON",
                               "con.txt",
                               "x/NUL",
                               "aux.py",
                               "lpt1",
                               "COM9.log",
                               "\xff",
                               "a\xC0\xAFz",
                               "\xED\xA0\x80",
                               "\xC2\x85",
                               "a\xE2\x88\x95"
                               "b",
                               "a\xEF\xBC\x8F"
                               "b",
                               "a\xE2\x81\x84"
                               "b",
                               "a\xEF\xBC\xBC"
                               "b",
                               std::string(256, 'a'),
                               deep,
                               "a/" + std::string(1024, 'b'),
                               "\xF5\x80\x80\x80"};
  for (const std::string& text : cases) {
    EXPECT_FALSE(SafeRelPath::is_safe(text)) << text;
    EXPECT_EQ(code_of([&] { SafeRelPath::parse(text, "test"); }), ErrorCode::kUnsafePath) << text;
  }
}

// Whatever is accepted must resolve beneath the root or not exist, never escape.
TEST(SafeRelPath, AcceptedRandomNamesNeverEscape) {
  const TempDirectory directory;
  const int root = ::open(directory.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  std::mt19937 random(7);
  const std::string alphabet = "a./\\ .:~\x01\xc2\xaf";
  for (int i = 0; i < 20'000; ++i) {
    std::string text;
    for (auto n = random() % 9; n > 0; --n) text += alphabet[random() % alphabet.size()];
    if (!SafeRelPath::is_safe(text)) continue;
    const auto code = code_of([&] { open_beneath(root, SafeRelPath::parse(text, "t"), O_RDONLY); });
    ASSERT_EQ(code, ErrorCode::kIo) << text;
    const auto joined = (directory.path() / text).lexically_normal().string();
    ASSERT_EQ(joined.rfind(directory.path().string() + "/", 0), 0U) << text;
  }
  ::close(root);
}

TEST(OpenBeneath, FollowsLinksInsideAndRefusesLinksOutside) {
  const TempDirectory outside;
  const TempDirectory directory;
  outside.write("secret", "s");
  directory.write("in/file", "x");
  std::filesystem::create_symlink(outside / "secret", directory / "leak");
  std::filesystem::create_directory_symlink(outside.path(), directory / "folder");
  const UniqueFd root(::open(directory.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_TRUE(open_beneath(root.get(), SafeRelPath::parse("in/file", "t"), O_RDONLY));
  for (const char* name : {"leak", "folder/secret"}) {
    EXPECT_EQ(code_of([&] { open_beneath(root.get(), SafeRelPath::parse(name, "t"), O_RDONLY); }),
              ErrorCode::kUnsafePath)
        << name;
  }
  EXPECT_EQ(code_of([&] { open_beneath(root.get(), SafeRelPath::parse("none", "t"), O_RDONLY); }),
            ErrorCode::kIo);
}

TEST(UniqueFd, ClosesOnceAndMoves) {
  UniqueFd first(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int number = first.get();
  UniqueFd second(std::move(first));
  EXPECT_FALSE(first);
  EXPECT_EQ(second.get(), number);
  second.reset();
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
}

}  // namespace
}  // namespace kernelhub
