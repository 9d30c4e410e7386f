// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/torch/tensor_view.h"

#include "expect_error.h"
#include "torch_fixture.h"

#include "kernelhub/torch/op.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace kernelhub {
namespace {

const Kernel& scale() {
  static const FixturePackage files(fixture("_bridge_scale_cpu_1"),
                                    fixture_metadata("_scale_cpu_v1"));
  static const Kernel kernel = files.kernel();
  return kernel;
}

std::optional<ErrorCode> view_code(const at::Tensor& tensor) {
  return code_of([&] { TensorView view(tensor); });
}

TEST(TensorViewTest, DescribesTheTensorsOwnMemory) {
  const at::Tensor whole = at::arange(24, at::kFloat).reshape({4, 6});
  const at::Tensor part = whole.slice(1, 1, 6, 2);
  TensorView view(part);
  const DLTensor& tensor = *view.get();
  EXPECT_EQ(tensor.data, part.data_ptr());
  EXPECT_EQ(tensor.ndim, 2);
  EXPECT_EQ(tensor.shape[0], 4);
  EXPECT_EQ(tensor.shape[1], 3);
  EXPECT_EQ(tensor.strides[0], 6);
  EXPECT_EQ(tensor.strides[1], 2);
  EXPECT_EQ(tensor.byte_offset, 0u);
  EXPECT_EQ(tensor.device.device_type, kDLCPU);
  EXPECT_EQ(tensor.dtype.code, kDLFloat);
  EXPECT_EQ(tensor.dtype.bits, 32);
}

TEST(TensorViewTest, KnowsTheDtypesOfKernels) {
  const std::tuple<at::ScalarType, int, int> cases[] = {{at::kHalf, kDLFloat, 16},
                                                        {at::kBFloat16, kDLBfloat, 16},
                                                        {at::kDouble, kDLFloat, 64},
                                                        {at::kChar, kDLInt, 8},
                                                        {at::kLong, kDLInt, 64},
                                                        {at::kByte, kDLUInt, 8},
                                                        {at::kBool, kDLBool, 8},
                                                        {at::kComplexFloat, kDLComplex, 64},
                                                        {at::kFloat8_e4m3fn, kDLFloat8_e4m3fn, 8}};
  for (const auto& [dtype, code, bits] : cases) {
    TensorView view(at::empty({2}, dtype));
    EXPECT_EQ(view.get()->dtype.code, code) << at::toString(dtype);
    EXPECT_EQ(view.get()->dtype.bits, bits) << at::toString(dtype);
    EXPECT_EQ(view.get()->dtype.lanes, 1);
  }
}

TEST(TensorViewTest, RefusesTensorsThatHaveNoPlainMemory) {
  EXPECT_EQ(view_code(at::Tensor()), ErrorCode::kBadTensor);
  EXPECT_EQ(view_code(at::empty({2}, at::TensorOptions().device(at::kMeta))),
            ErrorCode::kBadTensor);
  EXPECT_EQ(view_code(at::empty({2}, at::kComplexFloat).conj()), ErrorCode::kBadTensor);
  EXPECT_EQ(view_code(at::empty({2}, at::kComplexFloat).conj().resolve_conj()), std::nullopt);
  EXPECT_EQ(view_code(at::full({2}, 1.0).to_sparse()), ErrorCode::kBadTensor);
  EXPECT_EQ(view_code(at::empty({0})), std::nullopt);
}

TEST(TensorViewTest, CallsAFunctionWithTensors) {
  const at::Tensor x = at::full({3}, 2.0);
  at::Tensor out = at::zeros_like(x);
  call(scale().function("scale"), out, x, 1.5);
  EXPECT_FLOAT_EQ(out[2].item<float>(), 3.0f);
}

TEST(TensorViewTest, NamesTheArgumentThatHasNoView) {
  const Error error =
      error_of([] { call(scale().function("scale"), at::full({3}, 0.0), at::Tensor(), 1.5); });
  EXPECT_EQ(error.code(), ErrorCode::kBadTensor);
  EXPECT_EQ(nlohmann::json::parse(error.details()).at("argument"), "1");
}

TEST(TensorViewTest, LendsTorchsThreadsToPackages) {
  const FixturePackage files(fixture("_bridge_typed_cpu_1"), fixture_metadata("_typed_cpu_1"));
  const at::Tensor x = at::full({1000}, 0.5);
  EXPECT_DOUBLE_EQ(call(files.kernel().function("sum"), x).as_float(), 500.0);
}

}  // namespace
}  // namespace kernelhub
