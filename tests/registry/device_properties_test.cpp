// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/layers/device_properties.h"

#include "expect_error.h"

#include <gtest/gtest.h>

namespace kernelhub {
namespace {

TEST(Device, TakesTheEightTypesOfTheVocabulary) {
  for (const char* type : {"cpu", "cuda", "mps", "neuron", "npu", "rocm", "tpu", "xpu"}) {
    EXPECT_EQ(Device(type).type(), type);
  }
  EXPECT_EQ(code_of([] { Device("metal"); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { Device("cuda:0"); }), ErrorCode::kInvalidArgument);
}

TEST(Device, RefusesCapabilitiesWhereThereAreNone) {
  EXPECT_EQ(code_of([] { Device("cpu", CapabilityRange{1, 2}); }), ErrorCode::kInvalidArgument);
}

TEST(Device, RefusesAnEmptyRange) {
  EXPECT_EQ(code_of([] { Device("cuda", CapabilityRange{90, 80}); }), ErrorCode::kInvalidArgument);
}

TEST(Device, IsEqualByValue) {
  EXPECT_TRUE(Device("cuda", CapabilityRange{80, 90}) == Device("cuda", CapabilityRange{80, 90}));
  EXPECT_FALSE(Device("cuda") == Device("cuda", CapabilityRange{80, 90}));
}

}  // namespace
}  // namespace kernelhub
