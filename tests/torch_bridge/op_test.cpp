// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/torch/op.h"

#include "expect_error.h"
#include "torch_fixture.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <thread>

namespace kernelhub {
namespace {

const Kernel& stable() {
  static const FixturePackage files = torch_package("_stable_cpu_1");
  static const Kernel kernel = files.kernel();
  return kernel;
}

const Kernel& classic() {
  static const FixturePackage files = torch_package("_classic_cpu_1");
  static const Kernel kernel = files.kernel();
  return kernel;
}

TEST(OpTest, RefusesAWrongSignatureOfAStableOp) {
  // Torch itself accepts any of these for a stable-ABI op and then misreads the stack.
  const Kernel& kernel = stable();
  const auto code = [&](auto ask) { return code_of([&] { ask(); }); };
  EXPECT_EQ(code([&] { kernel.op<void(at::Tensor&, const at::Tensor&)>("scale"); }),
            ErrorCode::kSchemaMismatch);
  EXPECT_EQ(code([&] { kernel.op<void(at::Tensor&, const at::Tensor&, std::int64_t)>("scale"); }),
            ErrorCode::kSchemaMismatch);
  EXPECT_EQ(code([&] { kernel.op<at::Tensor(at::Tensor&, const at::Tensor&, double)>("scale"); }),
            ErrorCode::kSchemaMismatch);
  EXPECT_EQ(code([&] { kernel.op<void(at::Tensor&, const at::Tensor&, double)>("scale"); }),
            std::nullopt);
}

TEST(OpTest, NamesWantedAndActualSchemaInAMismatch) {
  const Error error =
      error_of([] { stable().op<std::int64_t(const at::Tensor&, std::int64_t)>("count"); });
  const std::string text = error.what();
  EXPECT_NE(text.find("count(Tensor x) -> int"), std::string::npos) << text;
}

TEST(OpTest, RefusesOtherCppTypesOfAClassicOp) {
  EXPECT_EQ(code_of([] { classic().op<void(at::Tensor, at::Tensor, double)>("scale"); }),
            ErrorCode::kSchemaMismatch);
}

TEST(OpTest, SelectsAnOverload) {
  const auto size =
      classic().op<std::int64_t(const std::optional<at::Tensor>&, std::int64_t)>("size.optional");
  EXPECT_EQ(size(std::nullopt, 7), 7);
  EXPECT_EQ(size(at::full({3}, 1.0), 7), 3);
  EXPECT_EQ(code_of([] { classic().boxed("size"); }), ErrorCode::kOpNotFound);
}

TEST(OpTest, NamesNearOpsForAMisspeltOne) {
  const Error error = error_of([] { stable().boxed("scales"); });
  EXPECT_EQ(error.code(), ErrorCode::kOpNotFound);
  EXPECT_NE(error.hint().find("scale"), std::string::npos);
}

TEST(OpTest, CallsABoxedOpWithAStack) {
  const at::Tensor x = at::full({2}, 2.0);
  const at::Tensor out = at::zeros_like(x);
  const BoxedOp scale = stable().boxed("scale");
  c10::Stack stack{out, x, 5.0};
  scale(stack);
  EXPECT_TRUE(stack.empty());
  EXPECT_FLOAT_EQ(out[0].item<float>(), 10.0f);
  const BoxedOp count = stable().boxed("count");
  stack = {x};
  count(stack);
  ASSERT_EQ(stack.size(), 1u);
  EXPECT_TRUE(stack[0].isInt());
}

TEST(OpTest, CanBeCalledFromManyThreads) {
  const auto scale = stable().op<void(at::Tensor&, const at::Tensor&, double)>("scale");
  std::vector<std::thread> threads;
  for (int i = 1; i <= 4; ++i) {
    threads.emplace_back([&scale, i] {
      const at::Tensor x = at::full({8}, 1.0);
      at::Tensor out = at::zeros_like(x);
      for (int round = 0; round < 200; ++round) scale(out, x, i);
      EXPECT_FLOAT_EQ(out[7].item<float>(), static_cast<float>(i));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(OpTest, PointsToFunctionsForATvmFfiPackage) {
  const FixturePackage files(fixture("_bridge_scale_cpu_1"), fixture_metadata("_scale_cpu_v1"));
  const Error error = error_of([&] { files.kernel().boxed("scale"); });
  EXPECT_EQ(error.code(), ErrorCode::kOpNotFound);
  EXPECT_NE(error.hint().find("function"), std::string::npos);
}

}  // namespace
}  // namespace kernelhub
