// SPDX-License-Identifier: Apache-2.0
#include "digest_manifest.h"

#include "expect_error.h"
#include "temp_directory.h"

#include "kernelhub/trust/verifier.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <sys/stat.h>

namespace kernelhub::trust {
namespace {

namespace fs = std::filesystem;

/// The directory of the vector in package spec 3.1.
void write_vector(const TempDirectory& directory) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  directory.write("__init__.py", "from ._ops import ops\n");
  directory.write("_ops.py", "");
  directory.write("layers/__init__.py", "class A: pass\n");
  directory.write("sub/metadata.json", "{}");
  directory.write("Z.bin", bytes);
  fs::create_symlink("Z.bin", directory / "link.bin");
  directory.write("A b.txt", "\xC3\xA9");
  directory.write(".hidden", "h");
  directory.write("foo.PYC", "upper");
  directory.write(".pyc", "dotpyc");
  directory.write("metadata.json", "{}");
  directory.write("metadata.json.sigstore", "{}");
  directory.write("a.pyc", "x");
  directory.write("__pycache__/plain.txt", "x");
  directory.write("sub/__pycache__/m.pyc", "x");
}

TEST(VariantDigest, EqualsThePeersVector) {
  const TempDirectory directory;
  write_vector(directory);
  const VariantDigest digest = compute_variant_digest(directory.path(), DigestAlgorithm::kSha256);
  std::map<std::string, std::string> found;
  for (const auto& [path, value] : digest.files) found[path] = value.base64();
  // The spec prints the value of "class A: pass" with its line feed.
  const std::map<std::string, std::string> expected = {
      {"__init__.py", "oJkKRxmymMxOBcRXhqsfbO0E+ZiDfCQ2pRXm7qmMTA8="},
      {"_ops.py", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
      {"layers/__init__.py", "W5jkI7xxw3WFcxH121Gfm0ZkWe9GwxvMs03n0II2Ubc="},
      {"sub/metadata.json", "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o="},
      {"Z.bin", "QK/y6dLYki5Hr9RkjmlnSXFYeF+9Hahw5xECZr+USIA="},
      {"link.bin", "QK/y6dLYki5Hr9RkjmlnSXFYeF+9Hahw5xECZr+USIA="},
      {"A b.txt", "SplVfkAzw1Od4utlRyAXytX5VX96BiWgnxw/biumnEw="},
      {".hidden", "qqlAJmTxpB9A67xSyZk+tmrrNmYClY/fqig7ceZNsSM="},
      {"foo.PYC", "ruYQVYKSAjdYpCKd3PdfFnyZBDE6g895UjLtf34hMck="},
      {".pyc", "Qt+F8cCYFgkhSyYUwT1Oh+/3+u5NfNBCDcqIjC7b26E="}};
  EXPECT_EQ(found, expected);
  const VariantDigest longer = compute_variant_digest(directory.path(), DigestAlgorithm::kSha512);
  EXPECT_EQ(
      longer.files.at("_ops.py").base64(),
      "z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==");
}

TEST(VariantDigest, OrdersPathsByByte) {
  const TempDirectory directory;
  for (const char* path :
       {"sub/a/x", "sub/a-b/x", "Z.bin", "__init__.py", ".hidden", "README.txt"}) {
    directory.write(path, "");
  }
  std::string order;
  for (const auto& [path, value] :
       compute_variant_digest(directory.path(), DigestAlgorithm::kSha256).files) {
    order += path + " ";
  }
  EXPECT_EQ(order, ".hidden README.txt Z.bin __init__.py sub/a-b/x sub/a/x ");
}

TEST(VariantDigest, SkipsLinkedFoldersAndFailsOnADanglingLink) {
  const TempDirectory outside;
  outside.write("evil.py", "x");
  const TempDirectory directory;
  fs::create_directory_symlink(outside.path(), directory / "folder");
  EXPECT_TRUE(compute_variant_digest(directory.path(), DigestAlgorithm::kSha256).files.empty());
  fs::create_symlink("nowhere", directory / "dangling");
  EXPECT_EQ(code_of([&] { compute_variant_digest(directory.path(), DigestAlgorithm::kSha256); }),
            ErrorCode::kIo);
}

TEST(VariantDigest, DoesNotHangOnAFifoAndFailsWithoutADirectory) {
  const TempDirectory directory;
  ASSERT_EQ(::mkfifo((directory / "fifo").c_str(), 0600), 0);
  EXPECT_TRUE(compute_variant_digest(directory.path(), DigestAlgorithm::kSha256).files.empty());
  EXPECT_EQ(code_of([&] { compute_variant_digest(directory / "none", DigestAlgorithm::kSha256); }),
            ErrorCode::kIo);
}

TEST(VariantDigest, FindingsComeInTheDocumentedOrder) {
  const auto digest = [](const char* text) { return digest_of(DigestAlgorithm::kSha256, text); };
  const VariantDigest expected{DigestAlgorithm::kSha256,
                               {{"a", digest("1")}, {"b", digest("2")}, {"c", digest("3")}}};
  EXPECT_TRUE(compare_variant_digest(expected, expected).empty());
  const VariantDigest actual{DigestAlgorithm::kSha256,
                             {{"0", digest("0")}, {"a", digest("1")}, {"c", digest("x")}}};
  const auto findings = compare_variant_digest(actual, expected);
  ASSERT_EQ(findings.size(), 3U);
  EXPECT_EQ(findings[0].rfind("b:", 0), 0U);
  EXPECT_EQ(findings[1].rfind("c:", 0), 0U);
  EXPECT_NE(findings[1].find(digest("3").base64()), std::string::npos);
  EXPECT_EQ(findings[2].rfind("0:", 0), 0U);
  const VariantDigest longer{DigestAlgorithm::kSha512, {}};
  EXPECT_EQ(compare_variant_digest(longer, expected).size(), 1U);
}

TEST(LockedDigest, HashesLengthPathAndContent) {
  const Digest content = digest_of(DigestAlgorithm::kSha256, "x");
  std::string message("\0\0\0\0\0\0\0\2ab", 10);
  message.append(content.bytes.begin(), content.bytes.end());
  EXPECT_EQ(locked_digest({{"ab", content}}),
            "sha256:" + digest_of(DigestAlgorithm::kSha256, message).hex());
}

}  // namespace
}  // namespace kernelhub::trust
