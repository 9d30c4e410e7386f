// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/repo.h"

#include "expect_error.h"

#include <gtest/gtest.h>

#include <string>

namespace kernelhub {
namespace {

TEST(RepoId, SplitsNamespaceAndName) {
  const RepoId id = RepoId::parse("kernels-community/layer_norm.v2");
  EXPECT_EQ(id.ns(), "kernels-community");
  EXPECT_EQ(id.name(), "layer_norm.v2");
  EXPECT_EQ(RepoId::parse("gpt2").ns(), "");
  EXPECT_EQ(RepoId::parse("gpt2").name(), "gpt2");
}

TEST(RepoId, RefusesWhatTheHubDoesNotAllow) {
  const std::string long_part(97, 'a');
  for (const std::string& text :
       {std::string(""),          std::string("/"),          std::string("a/"),
        std::string("/a"),        std::string("a/b/c"),      std::string("-a/b"),
        std::string("a-/b"),      std::string(".a/b"),       std::string("a/b."),
        std::string("a/b--c"),    std::string("a/b..c"),     std::string("../x"),
        std::string("a/b.git"),   std::string("a b/c"),      std::string("a/b\n"),
        std::string("a/b\0c", 5), std::string("a/\xC3\xA9"), std::string("a\\b"),
        long_part + "/x",         "x/" + long_part}) {
    EXPECT_EQ(code_of([&] { RepoId::parse(text); }), ErrorCode::kInvalidRepoId) << text;
  }
  EXPECT_EQ(RepoId::parse(std::string(96, 'a') + "/" + std::string(96, 'b')).ns().size(), 96U);
}

TEST(CommitHash, TakesFortyHexDigitsInLowerCase) {
  const std::string upper = "ABCDEF0123456789ABCDEF0123456789ABCDEF01";
  EXPECT_EQ(CommitHash::parse(upper).str(), "abcdef0123456789abcdef0123456789abcdef01");
  for (const std::string& text : {upper.substr(1), upper + "0", std::string(40, 'g')}) {
    EXPECT_FALSE(CommitHash::is_commit(text));
    EXPECT_EQ(code_of([&] { CommitHash::parse(text); }), ErrorCode::kInvalidRevision);
  }
}

TEST(KernelSpec, NeedsExactlyOneOfVersionAndRevision) {
  EXPECT_EQ(code_of([] { KernelSpec{}.validate(); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { KernelSpec{1, "main"}.validate(); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { KernelSpec::of_version(-1); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(KernelSpec::of_version(0).str(), "v0");
  EXPECT_EQ(KernelSpec::of_revision("refs/pr/1").str(), "refs/pr/1");
  for (const char* text : {"", "a..b", "/a", "a/", "a b", "a\n", "a~1", "a^", "a:b", "-x", "a//b",
                           "a@{1}", "a\\b", "a?"}) {
    EXPECT_EQ(code_of([&] { KernelSpec::of_revision(text); }), ErrorCode::kInvalidRevision) << text;
  }
}

TEST(VersionOfBranch, ReadsOnlyPlainNumbers) {
  EXPECT_EQ(version_of_branch("v0"), 0);
  EXPECT_EQ(version_of_branch("v12"), 12);
  for (const char* text :
       {"v", "V1", "1", "v1.0", "v-1", "v01", "v1 ", "main", "", "v99999999999999999999"}) {
    EXPECT_FALSE(version_of_branch(text)) << text;
  }
}

}  // namespace
}  // namespace kernelhub
