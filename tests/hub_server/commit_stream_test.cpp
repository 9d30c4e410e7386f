// SPDX-License-Identifier: Apache-2.0
#include "commit_stream.h"

#include "commit_paths.h"
#include "expect_error.h"
#include "temp_directory.h"

#include <gtest/gtest.h>

#include <sys/resource.h>

namespace kernelhub::server {
namespace {

constexpr std::string_view kHeader =
    R"({"key":"header","value":{"summary":"title","description":"text with \"content\": \"x\""}})"
    "\n";

class CommitStreamTest : public testing::Test {
 protected:
  CommitRequest read(std::string_view body, std::size_t piece = 1u << 20) {
    CommitStream stream(objects_);
    for (; !body.empty(); body.remove_prefix(std::min(piece, body.size()))) {
      stream.feed(body.substr(0, piece));
    }
    return stream.finish();
  }
  std::optional<ErrorCode> failure(const std::string& lines) {
    return code_of([&] { read(std::string(kHeader) + lines); });
  }
  static Digest sha256(std::string_view content) {
    return digest_of(DigestAlgorithm::kSha256, content);
  }

  TempDirectory folder_;
  ObjectStore objects_{folder_.path()};
};

TEST_F(CommitStreamTest, ReadsContentBeforeOrBehindThePathInPiecesOfAnySize) {
  const std::string body =
      std::string(kHeader) +
      R"({"key": "file", "value": {"content": "aGVsbG8=", "path": "a/b.txt", "encoding": "base64"}})"
      "\n\n"
      R"({"value":{"encoding":"base64","path":"c.txt","content":"d29ybGQh"},"key":"file"})";
  for (const std::size_t piece : {1u, 3u, 7u, 4096u}) {
    const CommitRequest request = read(body, piece);
    EXPECT_EQ(request.title, "title");
    EXPECT_EQ(request.description, "text with \"content\": \"x\"");
    ASSERT_EQ(request.changes.size(), 2u);
    EXPECT_EQ(request.changes[0].path, "a/b.txt");
    EXPECT_EQ(request.changes[0].object->sha256, sha256("hello"));
    EXPECT_EQ(request.changes[1].path, "c.txt");
    EXPECT_EQ(request.changes[1].object->sha256, sha256("world!"));
  }
}

TEST_F(CommitStreamTest, TakesAnEmptyFileAndAnEscapedSlash) {
  const CommitRequest request =
      read(std::string(kHeader) +
           R"({"key":"file","value":{"path":"empty","content":"","encoding":"base64"}})"
           "\n"
           R"({"key":"file","value":{"path":"slash","content":"\/\/\/\/","encoding":"base64"}})");
  EXPECT_EQ(request.changes[0].object->size_bytes, 0u);
  EXPECT_EQ(request.changes[1].object->sha256, sha256("\xff\xff\xff"));
}

TEST_F(CommitStreamTest, ReadsDeletionsAndStoredLfsObjects) {
  const StoredObject object = objects_.put("weights");
  const CommitRequest request =
      read(std::string(kHeader) + R"({"key":"deletedFile","value":{"path":"a"}})" + "\n" +
           R"({"key":"deletedFolder","value":{"path":"b/c/"}})" + "\n" +
           R"({"key":"lfsFile","value":{"path":"w","algo":"sha256","size":7,"oid":")" +
           object.sha256.hex() + "\"}}");
  ASSERT_EQ(request.changes.size(), 3u);
  EXPECT_EQ(request.changes[0].kind, CommitChange::Kind::kDeleteFile);
  EXPECT_EQ(request.changes[1].path, "b/c");
  EXPECT_EQ(request.changes[2].object->git_blob, object.git_blob);
}

TEST_F(CommitStreamTest, RefusesWhatIsNotBase64) {
  for (const char* content : {"abc", "ab-d", "a b=", "=abc", "ab==cd==", "ab\\u0041=", "a==="}) {
    EXPECT_EQ(failure(R"({"key":"file","value":{"path":"p","encoding":"base64","content":")" +
                      std::string(content) + "\"}}"),
              ErrorCode::kBadRequest)
        << content;
  }
}

TEST_F(CommitStreamTest, RefusesMalformedCommits) {
  const std::string file =
      R"({"key":"file","value":{"path":"p","content":"","encoding":"base64"}})";
  EXPECT_EQ(code_of([&] { read(file); }), ErrorCode::kBadRequest);
  EXPECT_EQ(code_of([&] { read(""); }), ErrorCode::kBadRequest);
  EXPECT_EQ(failure(std::string(kHeader)), ErrorCode::kBadRequest);
  EXPECT_EQ(failure(file + "\n" + file), ErrorCode::kBadRequest);
  EXPECT_EQ(failure(R"({"key":"rename","value":{"path":"p"}})"), ErrorCode::kBadRequest);
  EXPECT_EQ(failure(R"({"key":"file","value":{"path":"p","content":"","encoding":"utf-8"}})"),
            ErrorCode::kBadRequest);
  EXPECT_EQ(
      failure(R"({"key":"file","value":{"path":"p","c\u006fntent":"aaaa","encoding":"base64"}})"),
      ErrorCode::kBadRequest);
  EXPECT_EQ(failure(R"({"key":"file","value":{"path":"p","content":"aaaa)"),
            ErrorCode::kBadRequest);
  EXPECT_EQ(failure(R"({"key":"file")"), ErrorCode::kInvalidJson);
  EXPECT_EQ(failure(R"({"key":"lfsFile","value":{"path":"w","algo":"sha256","oid":")" +
                    sha256("absent").hex() + "\"}}"),
            ErrorCode::kBadRequest);
}

TEST(CommitPaths, RefusePathsThatLeaveOrHideInTheRepository) {
  for (const char* path : {"../x", "/x", "a//b", "a/./b", "a\\b", "", "a/"}) {
    EXPECT_EQ(code_of([&] { commit_path(path); }), ErrorCode::kUnsafePath) << path;
  }
  for (const char* path : {".git/config", "a/.git/x", ".cache/x", ".git"}) {
    EXPECT_EQ(code_of([&] { commit_path(path); }), ErrorCode::kBadRequest) << path;
  }
  EXPECT_EQ(commit_path(".gitattributes"), ".gitattributes");
}

TEST_F(CommitStreamTest, NeedsLittleMemoryForALongLine) {
  rusage before{};
  ::getrusage(RUSAGE_SELF, &before);
  CommitStream stream(objects_);
  stream.feed(kHeader);
  stream.feed(R"({"key":"file","value":{"content":")");
  const std::string piece(1u << 20, 'A');
  constexpr int kPieces = 64;
  for (int i = 0; i < kPieces; ++i) stream.feed(piece);
  stream.feed(R"(","path":"big","encoding":"base64"}})");
  const CommitRequest request = stream.finish();
  EXPECT_EQ(request.changes[0].object->size_bytes, kPieces * (piece.size() / 4 * 3));
  rusage after{};
  ::getrusage(RUSAGE_SELF, &after);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 16 * 1024) << "KiB";
#endif
}

}  // namespace
}  // namespace kernelhub::server
