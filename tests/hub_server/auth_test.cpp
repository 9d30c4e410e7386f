// SPDX-License-Identifier: Apache-2.0
#include "auth.h"

#include "expect_error.h"
#include "temp_directory.h"

#include "kernelhub/core/atomic_file.h"

#include <gtest/gtest.h>

#include <sys/stat.h>

namespace kernelhub::server {
namespace {

unsigned mode_of(const std::filesystem::path& path) {
  struct stat status {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return status.st_mode & 0777u;
}

TEST(TokenStore, StartsWithAnAdminTokenThatOnlyItsFileShows) {
  const TempDirectory folder;
  TokenStore tokens(folder.path());
  const std::string token = read_file(folder / "admin-token");
  EXPECT_EQ(tokens.admin_token(), token);
  EXPECT_EQ(mode_of(folder / "admin-token"), 0600u);
  EXPECT_EQ(mode_of(folder / "tokens.json"), 0600u);
  EXPECT_EQ(read_file(folder / "tokens.json").find(token), std::string::npos);
  EXPECT_EQ(tokens.identify("Bearer " + token, "a").token->role, Role::kAdmin);
  TokenStore again(folder.path());
  EXPECT_EQ(again.admin_token(), token);
}

TEST(TokenStore, RefusesUnknownTokensAndTakesNoneForAnonymous) {
  const TempDirectory folder;
  TokenStore tokens(folder.path());
  EXPECT_TRUE(tokens.identify("", "a").is_anonymous());
  for (const std::string& header : {std::string("Bearer nope"), std::string("Bearer "),
                                    "Basic " + tokens.admin_token(), tokens.admin_token()}) {
    EXPECT_EQ(code_of([&] { tokens.identify(header, "a"); }), ErrorCode::kAuthInvalid) << header;
  }
}

TEST(TokenStore, StopsAnAddressThatGuesses) {
  const TempDirectory folder;
  TokenStore tokens(folder.path());
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(code_of([&] { tokens.identify("Bearer guess", "bad"); }), ErrorCode::kAuthInvalid);
  }
  EXPECT_EQ(code_of([&] { tokens.identify("Bearer guess", "bad"); }), ErrorCode::kRateLimited);
  EXPECT_FALSE(tokens.identify("Bearer " + tokens.admin_token(), "good").is_anonymous());
}

TEST(TokenStore, SeesARevokedTokenAtOnce) {
  const TempDirectory folder;
  TokenStore tokens(folder.path());
  const std::string header = "Bearer " + tokens.add("bot", Role::kWrite, {"org"});
  EXPECT_EQ(tokens.identify(header, "a").token->name, "bot");
  write_file_atomically(folder / "tokens.json", tokens_to_json({}), 0600);
  EXPECT_EQ(code_of([&] { tokens.identify(header, "a"); }), ErrorCode::kAuthInvalid);
}

TEST(Caller, WritesOnlyWithARoleInTheNamespace) {
  const TempDirectory folder;
  TokenStore tokens(folder.path());
  const Caller anonymous;
  const Caller reader = tokens.identify("Bearer " + tokens.add("r", Role::kRead, {"*"}), "a");
  const Caller writer = tokens.identify("Bearer " + tokens.add("w", Role::kWrite, {"org"}), "a");
  EXPECT_EQ(code_of([&] { anonymous.require_write("org", "x"); }), ErrorCode::kAuthRequired);
  EXPECT_EQ(code_of([&] { reader.require_write("org", "x"); }), ErrorCode::kForbidden);
  EXPECT_EQ(code_of([&] { writer.require_write("other", "x"); }), ErrorCode::kForbidden);
  EXPECT_EQ(code_of([&] { writer.require_write("org", "x"); }), std::nullopt);
}

}  // namespace
}  // namespace kernelhub::server
