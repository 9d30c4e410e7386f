// SPDX-License-Identifier: Apache-2.0
#include "commit_body.h"

#include "expect_error.h"
#include "hub_on_loopback.h"

namespace kernelhub::hub {
namespace {

std::string drain(ComposedBody& body, std::size_t capacity) {
  std::string text;
  std::string buffer(capacity, '\0');
  while (const std::size_t count = body.read(buffer.data(), capacity)) {
    text.append(buffer, 0, count);
  }
  return text;
}

TEST(ComposedBody, EncodesFilesBetweenTextsAndKnowsItsSize) {
  const TemporaryFolder folder;
  const auto source = folder.path() / "big";
  const std::string content = noise(500'001);  // several blocks and a padded end
  write_content(source, content);
  ComposedBody body;
  body.add_text("<");
  body.add_file(source, content.size(), ComposedBody::Encoding::kBase64);
  body.add_text(">");
  const std::string expected = "<" + base64_encode(content) + ">";
  EXPECT_EQ(body.size_bytes(), expected.size());
  EXPECT_EQ(drain(body, 1000), expected);
  body.rewind();
  EXPECT_EQ(drain(body, 77'777), expected);
}

TEST(ComposedBody, EncodesTheVectorsOfRfc4648) {
  EXPECT_EQ(base64_encode(""), "");
  EXPECT_EQ(base64_encode("f"), "Zg==");
  EXPECT_EQ(base64_encode("foobar"), "Zm9vYmFy");
}

TEST(ComposedBody, RefusesAFileThatShrank) {
  const TemporaryFolder folder;
  const auto source = folder.path() / "short";
  write_content(source, "12");
  ComposedBody body;
  body.add_file(source, 3, ComposedBody::Encoding::kPlain);
  EXPECT_EQ(code_of([&] { drain(body, 10); }), ErrorCode::kIo);
}

}  // namespace
}  // namespace kernelhub::hub
