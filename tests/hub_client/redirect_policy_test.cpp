// SPDX-License-Identifier: Apache-2.0
#include "redirect_policy.h"

#include "expect_error.h"

namespace kernelhub::hub {
namespace {

const RedirectPolicy kPolicy("https://hub.example/prefix");

TEST(RedirectPolicy, KeepsATokenOfAnotherHubFromThePublicOne) {
  EXPECT_TRUE(kPolicy.is_hub("https://HUB.example:443/x"));
  EXPECT_FALSE(kPolicy.is_hub("https://huggingface.co/x"));
  const RedirectPolicy public_hub("https://huggingface.co");
  EXPECT_TRUE(public_hub.is_hub("https://huggingface.co/x"));
  EXPECT_TRUE(public_hub.is_hub("https://hf.co/x"));
  EXPECT_FALSE(public_hub.is_hub("https://hub.example/x"));
  EXPECT_FALSE(kPolicy.is_hub("http://hub.example/x"));
  EXPECT_FALSE(kPolicy.is_hub("https://hub.example:8443/x"));
  EXPECT_FALSE(kPolicy.is_hub("https://hub.example.evil/x"));
  EXPECT_FALSE(kPolicy.is_hub("https://hub.example@evil.example/x"));
}

TEST(RedirectPolicy, ResolvesRelativeLocationsAndKeepsQueries) {
  EXPECT_EQ(kPolicy.next_hop({"https://hub.example/a/b?x=1"}, "/c?etag=%22e%22"),
            "https://hub.example/c?etag=%22e%22");
  EXPECT_EQ(kPolicy.next_hop({"https://hub.example/a/b"}, "../d"), "https://hub.example/d");
  EXPECT_EQ(kPolicy.next_hop({"https://hub.example/a"}, "https://cdn.example/z?sig=1"),
            "https://cdn.example/z?sig=1");
}

TEST(RedirectPolicy, RefusesHttpsToHttp) {
  EXPECT_EQ(code_of([] { kPolicy.next_hop({"https://hub.example/a"}, "http://hub.example/a"); }),
            ErrorCode::kRedirectRefused);
}

TEST(RedirectPolicy, RefusesOtherSchemesAndEmptyLocations) {
  for (const char* location : {"file:///etc/passwd", "ftp://hub.example/a", ""}) {
    EXPECT_EQ(code_of([&] { kPolicy.next_hop({"https://hub.example/a"}, location); }),
              ErrorCode::kRedirectRefused)
        << location;
  }
}

TEST(RedirectPolicy, RefusesLoopsAndTheTwentyFirstHop) {
  EXPECT_EQ(code_of([] {
              kPolicy.next_hop({"https://hub.example/a", "https://hub.example/b"}, "/a");
            }),
            ErrorCode::kRedirectRefused);
  std::vector<std::string> hops;
  for (int i = 0; i < 20; ++i) hops.push_back("https://hub.example/" + std::to_string(i));
  EXPECT_EQ(kPolicy.next_hop(hops, "/20"), "https://hub.example/20");
  hops.push_back("https://hub.example/20");
  EXPECT_EQ(code_of([&] { kPolicy.next_hop(hops, "/21"); }), ErrorCode::kRedirectRefused);
}

TEST(RedirectPolicy, RewritesNextPagesOfThePublicHubToTheEndpoint) {
  EXPECT_EQ(kPolicy.next_page("https://hub.example/prefix/api/x",
                              "https://huggingface.co/api/x?cursor=2"),
            "https://hub.example/prefix/api/x?cursor=2");
  EXPECT_EQ(kPolicy.next_page("https://hub.example/prefix/api/x",
                              "https://hub.example/prefix/api/x?cursor=2"),
            "https://hub.example/prefix/api/x?cursor=2");
  EXPECT_EQ(code_of([] { kPolicy.next_page("https://hub.example/x", "https://evil.example/x"); }),
            ErrorCode::kRedirectRefused);
}

TEST(RedirectPolicy, RefusesAnEndpointThatIsNoUrl) {
  EXPECT_EQ(code_of([] { RedirectPolicy("not a url"); }), ErrorCode::kInvalidConfig);
}

}  // namespace
}  // namespace kernelhub::hub
