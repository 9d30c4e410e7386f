// SPDX-License-Identifier: Apache-2.0
#include "binding_plan.h"

#include "expect_error.h"
#include "layer_modules.h"

#include <gtest/gtest.h>

namespace kernelhub {
namespace {

struct BadPlan {
  const char* layer;  // in the fixture package
  ErrorCode code;
  const char* named;  // in the text of the error
};
void PrintTo(const BadPlan& bad, std::ostream* stream) { *stream << bad.layer; }
class BindingPlanErrors : public testing::TestWithParam<BadPlan> {};

TEST_P(BindingPlanErrors, AreFoundWhenTheModelIsKernelized) {
  Named module("Any");
  const ScopedKernelMapping scope({{"Any", {{Device("cpu"), package(GetParam().layer)}}}},
                                  InheritMapping::kNo);
  const Error error = error_of([&] { kernelize(module, Mode::kInference, "cpu"); });
  EXPECT_EQ(error.code(), GetParam().code) << error.what();
  EXPECT_NE(std::string(error.what()).find(GetParam().named), std::string::npos) << error.what();
}

INSTANTIATE_TEST_SUITE_P(
    Package, BindingPlanErrors,
    testing::Values(BadPlan{"NoSuchOp", ErrorCode::kOpNotFound, "absent"},
                    BadPlan{"WrongArity", ErrorCode::kInvalidBinding, "call.args"},
                    BadPlan{"WritesItsInput", ErrorCode::kInvalidBinding, "call.args[0]"},
                    BadPlan{"ReadsItsOutput", ErrorCode::kInvalidBinding, "call.args[0]"},
                    BadPlan{"WrongType", ErrorCode::kInvalidBinding, "call.args[2]"},
                    BadPlan{"UnknownParameter", ErrorCode::kInvalidBinding, "y"},
                    BadPlan{"BadForward", ErrorCode::kInvalidBinding, "forward"},
                    BadPlan{"OneResultOfTwo", ErrorCode::kInvalidBinding, "call.result"},
                    BadPlan{"NoTensorResult", ErrorCode::kInvalidBinding, "forward"},
                    BadPlan{"NoSuchBackwardOp", ErrorCode::kOpNotFound, "absent_backward"},
                    BadPlan{"GradOfNoResult", ErrorCode::kInvalidBinding, "backward.args[1]"},
                    BadPlan{"GradOfNothing", ErrorCode::kInvalidBinding, "backward.grads.weight"},
                    BadPlan{"SavesNoResult", ErrorCode::kInvalidBinding, "backward.args[2]"},
                    BadPlan{"NeedsAnother", ErrorCode::kInvalidBinding, "backward.args[5]"},
                    BadPlan{"HugeResult", ErrorCode::kInvalidBinding, "call.result"},
                    BadPlan{"DimOfOptional", ErrorCode::kInvalidBinding, "backward.args[5]"},
                    BadPlan{"OptionalIntoNeeded", ErrorCode::kInvalidBinding,
                            "call.args[1]: expected no \"optional\", the op needs this tensor"},
                    BadPlan{"GradIsNoResult", ErrorCode::kInvalidBinding, "backward.grads.x"},
                    BadPlan{"ScalePair", ErrorCode::kLayerSignatureMismatch, "(Tensor, Tensor)"},
                    BadPlan{"UnknownDtype", ErrorCode::kInvalidBinding, "float31"},
                    BadPlan{"Gated", ErrorCode::kLayerSignatureMismatch, "Tensor? gate"},
                    BadPlan{"Affine", ErrorCode::kMissingAttribute, "weight"}));

}  // namespace
}  // namespace kernelhub
