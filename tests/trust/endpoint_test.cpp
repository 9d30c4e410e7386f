// SPDX-License-Identifier: Apache-2.0
#include "endpoint.h"

#include <gtest/gtest.h>

namespace kernelhub::trust {
namespace {

TEST(Endpoint, SpellingsOfOneHubAreEqual) {
  EXPECT_EQ(normalised_endpoint("HTTPS://HuggingFace.co:443/"), kBuiltInEndpoint);
  EXPECT_EQ(normalised_endpoint("http://H:80/Path/"), "http://h/Path");
  EXPECT_EQ(normalised_endpoint("http://127.0.0.1:8080"), "http://127.0.0.1:8080");
  EXPECT_NE(normalised_endpoint("http://h:8080"), normalised_endpoint("http://h:80"));
  EXPECT_NE(normalised_endpoint("http://h/a"), normalised_endpoint("http://h/A"));
  EXPECT_NE(normalised_endpoint("http://h"), normalised_endpoint("https://h"));
}

TEST(Endpoint, OtherTextIsNoEndpoint) {
  for (const char* text : {"", "huggingface.co", "ftp://h", "https://", "https://h@evil",
                           "https://h?x", "https://h\\@evil", "https:///path"}) {
    EXPECT_EQ(normalised_endpoint(text), "") << text;
  }
}

TEST(Endpoint, OnlyHttpToAnotherMachineIsPlainRemote) {
  for (const char* url : {"http://hub.lan", "http://127.0.0.1.evil.org", "http://10.0.0.1:80",
                          "http://localhost.evil.org", "HTTP://HUB.LAN/x", "http://127.evil"}) {
    EXPECT_TRUE(is_plain_remote(url)) << url;
  }
  for (const char* url : {"http://127.0.0.1:1", "http://localhost", "http://[::1]:80/x",
                          "https://hub.lan", "http://127.9.9.9"}) {
    EXPECT_FALSE(is_plain_remote(url)) << url;
  }
}

}  // namespace
}  // namespace kernelhub::trust
