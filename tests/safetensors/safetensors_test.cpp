// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/safetensors.h"

#include "expect_error.h"

#include <ATen/ops/real.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>
#include <unistd.h>

namespace kernelhub {
namespace {

using std::filesystem::path;

path case_file(const std::string& name) {
  return path(KERNELHUB_SAFETENSORS_CASES) / (name + ".safetensors");
}

/// Verdicts of the reference library, by case.
std::map<std::string, bool> reference_verdicts() {
  std::map<std::string, bool> verdicts;
  std::ifstream stream(path(KERNELHUB_SAFETENSORS_CASES) / "verdicts.tsv");
  for (std::string name, verdict; stream >> name >> verdict;) {
    verdicts.emplace(name, verdict == "accept");
  }
  return verdicts;
}

/// A file of these bytes for one test.
class WrittenFile {
 public:
  explicit WrittenFile(std::string_view bytes)
      : path_(testing::TempDir() + "kernelhub-" + std::to_string(::getpid()) + ".safetensors") {
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  ~WrittenFile() { std::filesystem::remove(path_); }
  const path& get() const { return path_; }

 private:
  path path_;
};

std::string with_header(const std::string& header, std::size_t data_bytes) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(header.size() >> (8 * i) & 0xff);
  return bytes + header + std::string(data_bytes, '\0');
}

TEST(Safetensors, VerdictsEqualTheReferenceExceptWhereStricter) {
  // Ours refuses what a reader must not guess about, and bounds nesting.
  const std::map<std::string, bool> ours = {{"duplicate_key", false}, {"deep_json", false}};
  const std::map<std::string, bool> verdicts = reference_verdicts();
  ASSERT_GT(verdicts.size(), 40u);
  for (const auto& [name, reference] : verdicts) {
    const auto stricter = ours.find(name);
    const bool wanted = stricter == ours.end() ? reference : stricter->second;
    const auto code = code_of([&] { SafetensorsFile::open(case_file(name)); });
    if (wanted) {
      EXPECT_EQ(code, std::nullopt) << name;
    } else {
      EXPECT_EQ(code, ErrorCode::kInvalidSafetensors) << name;
    }
  }
}

TEST(Safetensors, TheTableOfTheFormatHolds) {
  const std::map<std::string, bool> verdicts = reference_verdicts();
  for (const char* name :
       {"plain", "spaces_after_json", "space_before_json", "metadata", "extra_field", "unsorted",
        "zero_dim", "scalar", "empty_object", "unaligned", "duplicate_key", "deep_json"}) {
    EXPECT_TRUE(verdicts.at(name)) << name;
  }
  for (const char* name : {"no_bytes", "hole", "overlap", "alias", "overflow", "data_too_long",
                           "nul_after_json", "complex128", "f4_half_byte"}) {
    EXPECT_FALSE(verdicts.at(name)) << name;
  }
}

TEST(Safetensors, ErrorsNameFileTensorAndField) {
  const Error error = error_of([] { SafetensorsFile::open(case_file("size_differs")); });
  const std::string text = error.what();
  EXPECT_NE(text.find("size_differs.safetensors"), std::string::npos) << text;
  EXPECT_NE(text.find("'a'"), std::string::npos) << text;
  EXPECT_NE(text.find("12 bytes"), std::string::npos) << text;
}

TEST(Safetensors, EveryDtypeOfTheReferenceReadsBackItsValues) {
  const SafetensorsFile file = SafetensorsFile::open(case_file("dtypes"));
  EXPECT_EQ(file.metadata().at("format"), "pt");
  ASSERT_EQ(file.entries().size(), 19u);
  const at::Tensor values = at::tensor({1, 2, 4, 8, 16, 32}, at::kDouble).view({2, 3});
  const at::Tensor flags = at::tensor({0, 1, 0, 1, 1, 0}, at::kDouble).view({2, 3});
  for (const SafetensorsEntry& entry : file.entries()) {
    const at::Tensor tensor = file.tensor(entry.name);
    const at::Tensor& wanted = entry.dtype == "BOOL" ? flags : values;
    const at::Tensor found = entry.dtype == "C64" ? at::real(tensor) : tensor;
    EXPECT_TRUE(found.to(at::kDouble).equal(wanted)) << entry.name;
  }
  EXPECT_EQ(file.tensor("bfloat16").scalar_type(), at::kBFloat16);
  EXPECT_EQ(file.tensor("float8_e4m3fn").scalar_type(), at::kFloat8_e4m3fn);
  EXPECT_EQ(file.tensor("uint64").scalar_type(), at::kUInt64);
}

TEST(Safetensors, TensorsAreViewsOfOneMappingThatOutliveTheFile) {
  at::Tensor first, second;
  {
    const SafetensorsFile file = SafetensorsFile::open(case_file("dtypes"));
    first = file.tensor("float32");
    second = file.tensor("float32");
  }
  EXPECT_EQ(first.const_data_ptr(), second.const_data_ptr());
  EXPECT_EQ(first.sum().item<float>(), 63.0f);
}

TEST(Safetensors, AnUnalignedTensorIsACopyWithTheSameValues) {
  const SafetensorsFile file = SafetensorsFile::open(case_file("unaligned"));
  const at::Tensor tensor = file.tensor("b");
  EXPECT_EQ(tensor.item<float>(), 1.5f);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()) % alignof(float), 0u);
  EXPECT_NE(tensor.const_data_ptr(), file.tensor("b").const_data_ptr());
}

TEST(Safetensors, ShapesOfScalarsAndEmptyTensorsAreKept) {
  EXPECT_EQ(SafetensorsFile::open(case_file("scalar")).tensor("a").dim(), 0);
  EXPECT_EQ(SafetensorsFile::open(case_file("zero_dim")).tensor("a").sizes(),
            (std::vector<std::int64_t>{0, 3}));
}

TEST(Safetensors, TrailingBytesAreAcceptedOnRequestOnly) {
  EXPECT_EQ(code_of([] { SafetensorsFile::open(case_file("data_too_long")); }),
            ErrorCode::kInvalidSafetensors);
  SafetensorsOptions options;
  options.allow_trailing = true;
  EXPECT_EQ(SafetensorsFile::open(case_file("data_too_long"), options).tensor("a").numel(), 2);
}

TEST(Safetensors, AHeaderAboveTheLimitIsRefusedUnread) {
  const WrittenFile file(with_header(std::string((25u << 20) + 1, ' '), 0));
  const Error error = error_of([&] { SafetensorsFile::open(file.get()); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidSafetensors);
  EXPECT_NE(std::string(error.what()).find("at most"), std::string::npos);
}

TEST(Safetensors, MoreThanAHundredThousandTensorsAreRefused) {
  std::string header = "{";
  for (int i = 0; i <= 100'000; ++i) {
    header += (i ? ",\"" : "\"") + std::to_string(i) +
              R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  }
  const WrittenFile file(with_header(header + "}", 0));
  EXPECT_EQ(code_of([&] { SafetensorsFile::open(file.get()); }), ErrorCode::kInvalidSafetensors);
}

TEST(Safetensors, AnUnknownTensorSuggestsNearNames) {
  const SafetensorsFile file = SafetensorsFile::open(case_file("dtypes"));
  const Error error = error_of([&] { file.tensor("layer.float8"); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(error.hint().find("float8_e4m3fn"), std::string::npos);
}

TEST(Safetensors, AFileThatCannotBeReadIsAnIoError) {
  EXPECT_EQ(code_of([] { SafetensorsFile::open("/nonexistent/x.safetensors"); }), ErrorCode::kIo);
  EXPECT_EQ(code_of([] { SafetensorsFile::open(testing::TempDir()); }), ErrorCode::kIo);
}

TEST(Safetensors, NoPrefixOfAGoodFileIsAccepted) {
  std::ifstream stream(case_file("metadata"), std::ios::binary);
  std::stringstream content;
  content << stream.rdbuf();
  const std::string bytes = content.str();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const WrittenFile file(std::string_view(bytes).substr(0, size));
    EXPECT_EQ(code_of([&] { SafetensorsFile::open(file.get()); }), ErrorCode::kInvalidSafetensors)
        << size;
  }
}

}  // namespace
}  // namespace kernelhub
