// SPDX-License-Identifier: Apache-2.0
#include "urls.h"

#include <gtest/gtest.h>

namespace kernelhub::hub {
namespace {

const Urls kUrls("https://host/prefix");
const RepoId kRepo = RepoId::parse("org/tk");

TEST(Urls, KeepsThePathPrefixOfTheEndpoint) {
  EXPECT_EQ(kUrls.refs(kRepo), "https://host/prefix/api/kernels/org/tk/refs");
  EXPECT_EQ(kUrls.organization("org"), "https://host/prefix/api/organizations/org/overview");
}

TEST(Urls, EncodesSlashesOfRevisionsButNotOfPaths) {
  EXPECT_EQ(kUrls.resolve(kRepo, "refs/pr/1", "build/a b/x+y.py"),
            "https://host/prefix/kernels/org/tk/resolve/refs%2Fpr%2F1/build/a%20b/x%2By.py");
  EXPECT_EQ(kUrls.tree(kRepo, "v1", "build", Urls::Depth::kFolder),
            "https://host/prefix/api/kernels/org/tk/tree/v1/build?recursive=false&expand=false");
  EXPECT_EQ(kUrls.tree(kRepo, "v1", "", Urls::Depth::kRecursive),
            "https://host/prefix/api/kernels/org/tk/tree/v1?recursive=true&expand=false");
}

TEST(Urls, EncodesUtf8ByteByByte) {
  EXPECT_EQ(percent_encode("\xc3\xa9%?#", Slash::kKeep), "%C3%A9%25%3F%23");
}

}  // namespace
}  // namespace kernelhub::hub
