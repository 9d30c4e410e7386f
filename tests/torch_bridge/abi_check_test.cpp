// SPDX-License-Identifier: Apache-2.0
#include "abi_check.h"

#include "expect_error.h"

#include "kernelhub/loader/system.h"

#include <gtest/gtest.h>

namespace kernelhub::loader {
namespace {

constexpr std::uint64_t version(std::uint64_t major, std::uint64_t minor, std::uint64_t patch) {
  return major << 56 | minor << 48 | patch << 40;
}

TEST(AbiCheck, AcceptsAnotherPatchOfTheSameTorch) {
  EXPECT_EQ(code_of([] { require_same_torch(version(2, 11, 1), version(2, 11, 0)); }),
            std::nullopt);
  EXPECT_EQ(code_of([] { require_compiled_torch(); }), std::nullopt);
}

TEST(AbiCheck, NamesBothVersionsWhenTheyDiffer) {
  const Error error = error_of([] { require_same_torch(version(2, 12, 0), version(2, 11, 0)); });
  EXPECT_EQ(error.code(), ErrorCode::kTorchMismatch);
  EXPECT_NE(std::string(error.what()).find("2.12.0"), std::string::npos);
  EXPECT_NE(std::string(error.what()).find("2.11.0"), std::string::npos);
}

TEST(AbiCheck, ProbesTheMappedTorch) {
  const SystemInfo& info = system();
  ASSERT_TRUE(info.torch.has_value());
  EXPECT_EQ(info.torch->major, 2);
  EXPECT_EQ(info.torch_cxx11_abi, true);
  EXPECT_FALSE(info.torch_library_dir.empty());
}

}  // namespace
}  // namespace kernelhub::loader
