// SPDX-License-Identifier: Apache-2.0
#include "byte_range.h"
#include "expect_error.h"
#include "lfs_rules.h"
#include "request_target.h"

#include "kernelhub/server/fault_plan.h"

#include <gtest/gtest.h>

namespace kernelhub::server {
namespace {

using Segments = std::vector<std::string>;

TEST(RequestTarget, SplitsBeforeItDecodesAndDecodesOnce) {
  const auto target = RequestTarget::parse(
      "/base/api/kernels/o/n/tree/refs%2Fheads%2Fv1/a%2520b?x=1%262&y=a+b", "/base");
  EXPECT_EQ(target.segments,
            (Segments{"api", "kernels", "o", "n", "tree", "refs/heads/v1", "a%20b"}));
  EXPECT_EQ(target.query.at("x"), "1&2");
  EXPECT_EQ(target.query.at("y"), "a b");
  EXPECT_EQ(target.rest(5), "refs/heads/v1/a%20b");
}

TEST(RequestTarget, RefusesBrokenEscapesControlBytesBackslashesAndOtherForms) {
  for (const char* target : {"/a%", "/a%2", "/a%zz", "/a%00", "/a%0d%0a", "/a%5cb", "/a\\b",
                             "http://other/a", "", "*"}) {
    EXPECT_EQ(code_of([&] { RequestTarget::parse(target, ""); }), ErrorCode::kBadRequest) << target;
  }
  for (const char* target : {"/api", "/based/api", "/base"}) {
    EXPECT_EQ(code_of([&] { RequestTarget::parse(target, "/base"); }), ErrorCode::kEntryNotFound)
        << target;
  }
}

TEST(ByteRange, CutsSingleRangesToWhatExists) {
  const auto check = [](const char* header, std::uint64_t first, std::uint64_t size_bytes) {
    const auto range = parse_byte_range(header, 100);
    ASSERT_TRUE(range) << header;
    EXPECT_EQ(range->first, first) << header;
    EXPECT_EQ(range->size_bytes, size_bytes) << header;
  };
  check("bytes=0-9", 0, 10);
  check("bytes=90-", 90, 10);
  check("bytes=90-1000", 90, 10);
  check("bytes=-5", 95, 5);
  check("bytes=-500", 0, 100);
  check("bytes=99-99", 99, 1);
  check("bytes=100-", 100, 0);
  check("bytes=-0", 100, 0);
}

TEST(ByteRange, IgnoresEverythingElse) {
  for (const char* header : {"", "bytes=", "bytes=a-b", "bytes=5-1", "bytes=0-1,3-4", "items=0-1",
                             "bytes=-", "bytes=99999999999999999999999-"}) {
    EXPECT_FALSE(parse_byte_range(header, 100)) << header;
  }
}

TEST(LfsRules, ReadOnlyLfsLinesAndMatchAsGitDoes) {
  const LfsRules rules =
      LfsRules::parse("# comment\n*.so filter=lfs -text\n*.txt text\n/top/*.dat filter=lfs\r\n");
  EXPECT_TRUE(rules.matches("build/x/k.so", 10));
  EXPECT_TRUE(rules.matches("k.so", 10));
  EXPECT_FALSE(rules.matches("k.so.txt", 10));
  EXPECT_TRUE(rules.matches("top/a.dat", 10));
  EXPECT_FALSE(rules.matches("other/top/a.dat", 10));
  EXPECT_TRUE(rules.matches("any", 1u << 20));
  EXPECT_FALSE(rules.matches("any", (1u << 20) - 1));
}

TEST(FaultPlan, PassesSkippedRequestsAndHitsTheNext) {
  FaultPlan plan;
  Fault fault;
  fault.path_contains = "big.bin";
  fault.method = "GET";
  fault.skip = 1;
  fault.times = 2;
  plan.add(fault);
  EXPECT_FALSE(plan.take("GET", "/other"));
  EXPECT_FALSE(plan.take("HEAD", "/x/big.bin"));
  EXPECT_FALSE(plan.take("GET", "/x/big.bin"));
  EXPECT_TRUE(plan.take("GET", "/x/big.bin"));
  EXPECT_TRUE(plan.take("GET", "/x/big.bin"));
  EXPECT_FALSE(plan.take("GET", "/x/big.bin"));
}

}  // namespace
}  // namespace kernelhub::server
