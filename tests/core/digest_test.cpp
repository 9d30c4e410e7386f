// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/digest.h"

#include "expect_error.h"
#include "temp_directory.h"

#include "kernelhub/core/unique_fd.h"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <string>
#include <unistd.h>

namespace kernelhub {
namespace {

constexpr auto kSha1 = DigestAlgorithm::kSha1;
constexpr auto kSha256 = DigestAlgorithm::kSha256;
constexpr auto kSha512 = DigestAlgorithm::kSha512;

// FIPS 180-4 examples for "abc".
TEST(Digest, MatchesThePublishedExamples) {
  EXPECT_EQ(digest_of(kSha1, "abc").hex(), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(digest_of(kSha256, "abc").hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(digest_of(kSha512, "abc").hex(),
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
            "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
  EXPECT_EQ(digest_of(kSha256, "").base64(), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
}

TEST(Hasher, GivesOneResultForAnySplitOfTheInput) {
  Hasher hasher(kSha256);
  hasher.update("a");
  hasher.update("");
  hasher.update("bc");
  EXPECT_EQ(hasher.finish(), digest_of(kSha256, "abc"));
}

TEST(Hasher, NamesBlobsAsGitDoes) {
  Hasher empty = Hasher::git_blob(0);
  EXPECT_EQ(empty.finish().hex(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
  Hasher hello = Hasher::git_blob(6);
  hello.update("hello\n");
  EXPECT_EQ(hello.finish().hex(), "ce013625030ba8dba906f756967f9e9ca394464a");
}

TEST(Digest, HashesAnOpenFileWithoutMovingItsOffset) {
  const TempDirectory directory;
  const std::string content(700'000, 'x');
  const UniqueFd fd(::open(directory.write("f", content).c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(::lseek(fd.get(), 5, SEEK_SET), 5);
  EXPECT_EQ(digest_of_fd(kSha256, fd.get()), digest_of(kSha256, content));
  EXPECT_EQ(::lseek(fd.get(), 0, SEEK_CUR), 5);
  EXPECT_EQ(code_of([] { digest_of_fd(kSha256, -1); }), ErrorCode::kIo);
}

TEST(Digest, TextFormsRoundTrip) {
  for (const auto algorithm : {kSha1, kSha256, kSha512}) {
    const Digest digest = digest_of(algorithm, "round");
    EXPECT_EQ(Digest::from_hex(algorithm, digest.hex()), digest);
    EXPECT_EQ(Digest::from_base64(algorithm, digest.base64()), digest);
    EXPECT_EQ(parse_digest_algorithm(digest_algorithm_name(algorithm)), algorithm);
  }
}

TEST(Digest, RefusesOtherLengthsAndAlphabets) {
  const Digest digest = digest_of(kSha256, "x");
  for (const std::string& text :
       {std::string(), digest.hex().substr(2), digest.hex() + "00", std::string(64, 'g')}) {
    EXPECT_EQ(code_of([&] { Digest::from_hex(kSha256, text); }), ErrorCode::kInvalidDigest);
  }
  std::string not_canonical = digest.base64();
  not_canonical[42] = static_cast<char>(not_canonical[42] + 1);  // sets a bit that is cut off
  std::string url_alphabet(44, '_');
  for (const std::string& text :
       {std::string(), digest.base64().substr(0, 43), digest.base64() + "=", not_canonical,
        url_alphabet, " " + digest.base64().substr(1)}) {
    EXPECT_EQ(code_of([&] { Digest::from_base64(kSha256, text); }), ErrorCode::kInvalidDigest)
        << text;
  }
  EXPECT_EQ(code_of([] { parse_digest_algorithm("md5"); }), ErrorCode::kInvalidDigest);
}

}  // namespace
}  // namespace kernelhub
