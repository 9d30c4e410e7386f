// SPDX-License-Identifier: Apache-2.0
#include "hub_json.h"

#include "expect_error.h"
#include "hub_write_json.h"

namespace kernelhub::hub {
namespace {

const std::string kOrigin = "https://hub.example/api";
const std::string kOid(40, 'a');
const std::string kSha256(64, 'b');

Tree page(const std::string& text, std::string_view folder = "build") {
  Tree tree;
  parse_tree_page(text, kOrigin, folder, tree);
  return tree;
}

std::string file_entry(const std::string& path, const std::string& oid = kOid) {
  return R"([{"type":"file","path":")" + path + R"(","size":3,"oid":")" + oid + "\"}]";
}

TEST(HubJson, ReadsBranchesAndTags) {
  const Refs refs =
      parse_refs(R"({"branches":[{"name":"v2","ref":"refs/heads/v2","targetCommit":")" + kOid +
                     R"("}],"tags":[],"converts":[],"future":1})",
                 kOrigin);
  ASSERT_EQ(refs.branches.size(), 1u);
  EXPECT_EQ(refs.branches[0].name, "v2");
  EXPECT_EQ(refs.branches[0].commit.str(), kOid);
}

TEST(HubJson, NamesAFileByItsSha256WhenItIsLfs) {
  const Tree tree = page(R"([{"type":"file","path":"build/x/a.so","size":9,"oid":")" + kOid +
                         R"(","lfs":{"oid":")" + kSha256 +
                         R"(","size":1234567,"pointerSize":132}},)"
                         R"({"type":"directory","path":"build/x","oid":"","size":0}])");
  ASSERT_EQ(tree.files.size(), 1u);
  EXPECT_EQ(tree.files[0].etag(), kSha256);
  EXPECT_EQ(tree.files[0].size_bytes, 1234567u);
  EXPECT_EQ(tree.directories, std::vector<std::string>{"build/x"});
}

TEST(HubJson, RefusesPathsThatLeaveTheFolder) {
  for (const char* path : {"build/../../etc/passwd", "/etc/passwd", "build//x", "build\\\\x",
                           "other/x", "build", "buildx/y", ".."}) {
    EXPECT_EQ(code_of([&] { page(file_entry(path)); }), ErrorCode::kUnsafeListing) << path;
  }
}

TEST(HubJson, RefusesIdsThatAreNoHashes) {
  for (const char* oid : {"", "../../x", "ABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCD"}) {
    EXPECT_EQ(code_of([&] { page(file_entry("build/x", oid)); }), ErrorCode::kUnsafeListing);
  }
}

TEST(HubJson, CallsALoginPageNotAHub) {
  EXPECT_EQ(code_of([] { parse_refs("<html>log in</html>", kOrigin); }), ErrorCode::kNotAHub);
  EXPECT_EQ(code_of([] { page("{}"); }), ErrorCode::kNotAHub);
  EXPECT_EQ(code_of([] { parse_refs(R"({"branches":[{"name":"v1"}]})", kOrigin); }),
            ErrorCode::kNotAHub);
}

TEST(HubJson, TrustsAPublisherOnlyByATrueFlag) {
  EXPECT_TRUE(parse_publisher_flag(R"({"trustedKernelPublisher":true})", kOrigin));
  EXPECT_FALSE(parse_publisher_flag(R"({"trustedKernelPublisher":false})", kOrigin));
  EXPECT_FALSE(parse_publisher_flag(R"({"name":"org"})", kOrigin));
  EXPECT_EQ(code_of([] { parse_publisher_flag(R"({"trustedKernelPublisher":"yes"})", kOrigin); }),
            ErrorCode::kNotAHub);
}

TEST(HubWriteJson, WritesBodiesAsTheSpecSaysThem) {
  EXPECT_EQ(create_repo_body(RepoId::parse("org/tk"), false),
            R"({"name":"tk","organization":"org","type":"kernel","visibility":"public"})");
  EXPECT_EQ(create_branch_body(CommitHash::parse(kOid)), R"({"startingPoint":")" + kOid + "\"}");
  EXPECT_EQ(preupload_body({{"a", 3, "eHl6"}}),
            R"({"files":[{"path":"a","size":3,"sample":"eHl6"}]})");
  EXPECT_EQ(lfs_batch_body({{kSha256, 3}}, "v1"),
            R"({"operation":"upload","transfers":["basic"],"objects":[{"oid":")" + kSha256 +
                R"(","size":3}],"hash_algo":"sha256","ref":{"name":"v1"}})");
  const FileLine line = commit_file_line("a\"b");
  EXPECT_EQ(line.before + "eHl6" + line.after,
            R"({"key":"file","value":{"path":"a\"b","encoding":"base64","content":"eHl6"}})"
            "\n");
}

TEST(HubWriteJson, ReadsUploadActions) {
  const auto actions = parse_lfs_batch(
      R"({"transfer":"basic","objects":[{"oid":"1","size":3,"actions":{"upload":{"href":"u",)"
      R"("header":{"X-A":"b"}},"verify":{"href":"v"}}},{"oid":"2","size":4},)"
      R"({"oid":"3","size":4,"error":{"code":422,"message":"too big"}}]})",
      kOrigin);
  ASSERT_EQ(actions.size(), 3u);
  EXPECT_EQ(actions[0].upload_url, "u");
  EXPECT_EQ(actions[0].upload_headers[0].second, "b");
  EXPECT_EQ(actions[0].verify_url, "v");
  EXPECT_EQ(actions[1].upload_url, "");
  EXPECT_EQ(actions[2].error, "too big");
}

}  // namespace
}  // namespace kernelhub::hub
