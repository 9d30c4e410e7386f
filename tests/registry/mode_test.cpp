// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/layers/mode.h"

#include "expect_error.h"

#include <gtest/gtest.h>

namespace kernelhub {
namespace {

const Mode kI = Mode::kInference;
const Mode kT = Mode::kTraining;
const Mode kC = Mode::kTorchCompile;
const Mode kF = Mode::kFallback;

TEST(Mode, ValuesAreThoseOfThePythonClient) {
  EXPECT_EQ(static_cast<int>(kF), 1);
  EXPECT_EQ(static_cast<int>(kT), 2);
  EXPECT_EQ(static_cast<int>(kI), 4);
  EXPECT_EQ(static_cast<int>(kC), 8);
  EXPECT_EQ(static_cast<int>(KernelizeFallback::kDefault), 15);
  EXPECT_EQ(static_cast<int>(KernelizeFallback::kAll), 31);
}

TEST(Mode, InferenceWithTrainingIsRefused) {
  EXPECT_EQ(code_of([] { (void)(kI | kT); }), ErrorCode::kInvalidMode);
  EXPECT_EQ(code_of([] { (void)((kI | kC) | kT); }), ErrorCode::kInvalidMode);
}

TEST(Mode, FallbackCannotBeCombined) {
  EXPECT_EQ(code_of([] { (void)(kF | kI); }), ErrorCode::kInvalidMode);
  EXPECT_EQ(code_of([] { (void)(kC | kF); }), ErrorCode::kInvalidMode);
}

TEST(Mode, KernelizeNeedsInferenceOrTraining) {
  EXPECT_EQ(code_of([] { require_kernelize_mode(kF); }), ErrorCode::kInvalidMode);
  EXPECT_EQ(code_of([] { require_kernelize_mode(kC); }), ErrorCode::kInvalidMode);
  EXPECT_NO_THROW(require_kernelize_mode(kT | kC));
}

TEST(Mode, ChainsAreTriedInTheOrderOfTheTable) {
  EXPECT_EQ(mode_chain(kI), (std::vector<Mode>{kI, kI | kC, kT, kT | kC, kF}));
  EXPECT_EQ(mode_chain(kT), (std::vector<Mode>{kT, kT | kC, kF}));
  EXPECT_EQ(mode_chain(kI | kC), (std::vector<Mode>{kI | kC, kT | kC, kF}));
  EXPECT_EQ(mode_chain(kT | kC), (std::vector<Mode>{kT | kC, kF}));
}

TEST(Mode, NamesRoundTrip) {
  EXPECT_EQ(mode_name(kI | kC), "INFERENCE|TORCH_COMPILE");
  for (const Mode mode : {kI, kT, kC, kF}) EXPECT_EQ(parse_mode(mode_name(mode)), mode);
  EXPECT_EQ(code_of([] { parse_mode("inference"); }), ErrorCode::kInvalidMode);
}

}  // namespace
}  // namespace kernelhub
