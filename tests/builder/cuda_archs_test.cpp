// SPDX-License-Identifier: Apache-2.0
#include "cuda_archs.h"

#include "cuda_binary.h"

#include <gtest/gtest.h>

namespace kernelhub::builder {
namespace {

std::string selected(MajorMinor toolkit, const std::vector<std::string>& wanted) {
  std::string text;
  for (const CudaArch& arch : select_cuda_archs(toolkit, wanted)) {
    text += (text.empty() ? "" : ";") + arch.str();
  }
  return text;
}

TEST(CudaArchsTest, SelectsAsTheTableOfThePackageFormatSays) {
  EXPECT_EQ(selected({13, 0}, {"7.5", "8.0", "8.6", "9.0", "9.0a"}), "7.5;8.0;8.6;9.0a");
  EXPECT_EQ(selected({13, 0}, {"8.0"}), "8.0");
  EXPECT_EQ(selected({13, 0}, {"8.0", "8.9", "9.0a", "10.0", "10.1", "12.0"}),
            "8.0;8.9;9.0a;10.0;12.0");
  EXPECT_EQ(selected({13, 0}, {"10.1"}), "");
  EXPECT_EQ(selected({13, 0}, {"5.0"}), "");
  EXPECT_EQ(selected({12, 8}, {"12.1a"}), "");
  EXPECT_EQ(selected({12, 6}, {"9.0a", "10.0a", "12.0a"}), "9.0a");
  EXPECT_EQ(selected({13, 0}, {"12.1a"}), "12.1a");
}

TEST(CudaArchsTest, TakesTheWholeListWithoutCapabilities) {
  EXPECT_EQ(selected({13, 0}, {}), "7.5;8.0;8.6;8.7;8.9;9.0;10.0;11.0;12.0;12.1+PTX");
  EXPECT_EQ(selected({12, 4}, {}), "7.0;7.2;7.5;8.0;8.6;8.7;8.9;9.0+PTX");
}

TEST(CudaArchsTest, LetsPtxServeANewerMajorVersion) {
  EXPECT_EQ(selected({13, 0}, {"8.0+PTX"}), "8.0+PTX");
  EXPECT_EQ(selected({13, 0}, {"8.0", "9.0", "12.0+PTX"}), "8.0;9.0;12.0+PTX");
}

TEST(CudaArchsTest, RefusesWhatIsNoCapability) {
  for (const char* text : {"", "9", "9.", ".0", "9.0b", "9.0ab", "90", "11.8x", "9.10", "a.b"}) {
    EXPECT_FALSE(CudaArch::parse(text)) << text;
  }
  EXPECT_EQ(CudaArch::parse("12.0f+PTX")->str(), "12.0f+PTX");
  EXPECT_EQ(CudaArch::parse("9.0a")->digits(), "90a");
}

TEST(CudaArchsTest, ReadsTheArchsOfALibraryFromTheListings) {
  const std::string elf =
      "ELF file    1: x.1.sm_80.cubin\nELF file    2: x.2.sm_90a.cubin\n"
      "ELF file    3: x.3.sm_120.cubin\n";
  const std::string ptx = "PTX file    1: x.1.sm_120.ptx\n";
  EXPECT_EQ(cuda_archs_of_listings(elf, ptx), (std::set<std::string>{"12.0+PTX", "8.0", "9.0a"}));
  EXPECT_EQ(cuda_archs_of_listings(elf, ""), (std::set<std::string>{"12.0", "8.0", "9.0a"}));
}

}  // namespace
}  // namespace kernelhub::builder
