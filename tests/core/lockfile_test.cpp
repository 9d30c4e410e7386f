// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/lockfile.h"

#include "expect_error.h"
#include "temp_directory.h"

#include <gtest/gtest.h>

#include <string>

namespace kernelhub {
namespace {

const std::string kCommit = "0123456789abcdef0123456789abcdef01234567";
const std::string kOther = "ffffffffffffffffffffffffffffffffffffffff";
const std::string kDigest = "sha256:" + std::string(64, 'a');

std::string entry(const std::string& spec, const std::string& lock) {
  return R"({"dependency": {"repo-id": "org/relu", )" + spec + R"(}, "lock": )" + lock + "}";
}
const std::string kLock = R"({"commit": ")" + kCommit + R"("})";

std::string digests(const std::string& commit) {
  return R"({"format":1,"kernels":[{"repo-id":"org/relu","version":1,"commit":")" + commit +
         R"(","endpoint":"https://h","variants":{"torch-cpu":{"digest":")" + kDigest + R"("}}}]})";
}

TEST(Lockfile, ReadsThePeersForm) {
  const TempDirectory directory;
  const auto file = directory.write(
      "kernels.lock",
      "[" + entry(R"("version": 1)", kLock) + "," +
          R"({"dependency":{"repo-id":"org/x","revision":"main"},"lock":{"commit":")" + kOther +
          R"(","hash":"sha256-x"}}])");
  const Lockfile lock = Lockfile::read(file);
  ASSERT_EQ(lock.kernels().size(), 2U);
  const LockedKernel* relu = lock.find(RepoId::parse("org/relu"));
  ASSERT_NE(relu, nullptr);
  EXPECT_EQ(relu->spec.version, 1);
  EXPECT_EQ(relu->commit.str(), kCommit);
  EXPECT_TRUE(relu->variant_digests.empty());
  EXPECT_EQ(lock.kernels()[1].spec.revision, "main");
  EXPECT_EQ(lock.find(RepoId::parse("org/none")), nullptr);
}

TEST(Lockfile, ReadsTheLegacyForm) {
  const TempDirectory directory;
  const auto file = directory.write(
      "kernels.lock",
      R"([{"repo_id":"org/relu","sha":")" + kCommit +
          R"(","variants":{"v":{"hash":"sha256-x","hash_type":"git_lfs_concat"}}}])");
  const Lockfile lock = Lockfile::read(file);
  EXPECT_EQ(lock.kernels().at(0).commit.str(), kCommit);
  EXPECT_TRUE(lock.kernels().at(0).variant_digests.empty());
}

TEST(Lockfile, TakesDigestsFromTheFileBeside) {
  const TempDirectory directory;
  const auto file = directory.write("kernels.lock", "[" + entry(R"("version": 1)", kLock) + "]");
  directory.write("kernelhub.lock", digests(kCommit));
  EXPECT_EQ(Lockfile::read(file).kernels()[0].variant_digests.at("torch-cpu"), kDigest);
}

TEST(Lockfile, RefusesTwoFilesThatPinDifferentCommits) {
  const TempDirectory directory;
  const auto file = directory.write("kernels.lock", "[" + entry(R"("version": 1)", kLock) + "]");
  directory.write("kernelhub.lock", digests(kOther));
  EXPECT_EQ(code_of([&] { Lockfile::read(file); }), ErrorCode::kInvalidLockfile);
}

TEST(Lockfile, RefusesUnknownMissingAndRepeatedParts) {
  const TempDirectory directory;
  const std::string good = entry(R"("version": 1)", kLock);
  for (const std::string& text :
       {std::string("{}"), std::string("[1]"), "[" + good + "," + good + "]",
        "[" + entry(R"("version": 1, "x": 1)", kLock) + "]",
        "[" + entry(R"("version": 1, "revision": "a")", kLock) + "]",
        "[" + entry(R"("revision": "a..b")", kLock) + "]",
        "[" + entry(R"("version": 1)", R"({"commit": "abc"})") + "]",
        "[" + entry(R"("version": 1)", "{}") + "]",
        std::string(R"([{"repo_id":"org/relu","sha":"0","variants":{}}])")}) {
    const auto file = directory.write("kernels.lock", text);
    EXPECT_EQ(code_of([&] { Lockfile::read(file); }), ErrorCode::kInvalidLockfile) << text;
  }
  EXPECT_TRUE(Lockfile::read(directory.write("kernels.lock", "[]")).kernels().empty());
  EXPECT_EQ(code_of([&] { Lockfile::read(directory / "none"); }), ErrorCode::kIo);
}

}  // namespace
}  // namespace kernelhub
