// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/layers/replaceable.h"

#include "layer_modules.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/container/sequential.h>

namespace kernelhub {
namespace {

/// Multiplies the argument by the module's own scale and weight; refuses integer tensors.
class ScaleByModule : public BoundForward {
 public:
  const std::string& source() const noexcept override { return source_; }
  ModuleInputs inputs_of(const Swappable& layer) const override {
    const auto& module = dynamic_cast<const Affine&>(layer);
    ModuleInputs inputs;
    inputs.tensors.push_back(module.weight);
    const KernelAttr& attr = layer.kernel_attrs().at(0);
    inputs.scalars.push_back({attr.type, attr.address(layer), {}});
    return inputs;
  }
  at::Tensor run(const ModuleInputs& inputs, c10::ArrayRef<c10::IValue> arguments) const override {
    return run_unary(inputs, arguments[0].toTensor());
  }
  BoundResults run_several(const ModuleInputs& inputs,
                           c10::ArrayRef<c10::IValue> arguments) const override {
    return {run(inputs, arguments)};
  }
  at::Tensor run_unary(const ModuleInputs& inputs, const at::Tensor& x) const override {
    if (!x.is_floating_point()) return {};
    return x * *inputs.tensors[0] * *static_cast<const double*>(inputs.scalars[0].address);
  }

 private:
  std::string source_ = "test";
};

void bind(Affine& module) {
  const auto bound = std::make_shared<ScaleByModule>();
  static_cast<Swappable&>(module).bind(bound, bound->inputs_of(module));
}

TEST(Replaceable, AnEmptySlotRunsTheModulesOwnForward) {
  Affine module(2.0);
  EXPECT_EQ(static_cast<Swappable&>(module).bound(), nullptr);
  EXPECT_TRUE(module.forward(sample()).equal(sample() * 2 + 0.5));
}

TEST(Replaceable, ABoundSlotRunsTheKernelUntilUnbound) {
  Affine module(2.0);
  bind(module);
  EXPECT_TRUE(module.forward(sample()).equal(sample() * 2));
  static_cast<Swappable&>(module).unbind();
  EXPECT_TRUE(module.forward(sample()).equal(sample() * 2 + 0.5));
}

TEST(Replaceable, ARefusedCallRunsTheModulesOwnForward) {
  Affine module(2.0);
  bind(module);
  EXPECT_TRUE(module.forward(at::arange(3)).equal(at::arange(3) * 2 + 0.5));
}

TEST(Replaceable, ACloneKeepsTheKernelAndReadsItsOwnParametersAndScalars) {
  const auto original = std::make_shared<Affine>(2.0);
  bind(*original);
  const auto copy = std::dynamic_pointer_cast<Affine>(original->clone());
  ASSERT_NE(copy, nullptr);
  {
    const at::NoGradGuard no_grad;
    copy->weight.fill_(10);
  }
  copy->scale = 3.0;
  EXPECT_TRUE(copy->forward(sample()).equal(sample() * 30));
  EXPECT_TRUE(original->forward(sample()).equal(sample() * 2));
}

TEST(Replaceable, ACloneOutlivesItsOriginal) {
  auto original = std::make_shared<Affine>(2.0);
  bind(*original);
  const auto copy = std::dynamic_pointer_cast<Affine>(original->clone());
  original.reset();
  EXPECT_TRUE(copy->forward(sample()).equal(sample() * 2));
}

TEST(Replaceable, ClonesOfChildrenReadTheirOwnScalars) {
  const auto model = std::make_shared<Model>();
  bind(*model->first);
  const auto copy = std::dynamic_pointer_cast<Model>(model->clone());
  copy->first->scale = 7.0;
  EXPECT_TRUE(copy->first->forward(sample()).equal(sample() * 7));
  EXPECT_TRUE(model->first->forward(sample()).equal(sample() * 2));
}

TEST(Replaceable, AScalarChangedLaterIsSeenByTheKernel) {
  Affine module(2.0);
  bind(module);
  module.scale = 5.0;
  EXPECT_TRUE(module.forward(sample()).equal(sample() * 5));
}

TEST(Replaceable, WorksInsideSequential) {
  const auto layer = std::make_shared<Affine>(2.0);
  torch::nn::Sequential sequence(layer, Affine(3.0));
  bind(*layer);
  EXPECT_TRUE(sequence->forward(sample()).equal(sample() * 2 * 3 + 0.5));
}

TEST(Replaceable, TheSignatureIsInferredFromTheTypes) {
  const Affine module;
  const Signature& signature = static_cast<const Swappable&>(module).signature();
  ASSERT_EQ(signature.arguments().size(), 1u);
  EXPECT_EQ(signature.arguments()[0].type()->str(), "Tensor");
  EXPECT_EQ(signature.returns().at(0).type()->str(), "Tensor");
}

TEST(Replaceable, TheSignatureOfAFunctionOfSeveralResultsIsInferredToo) {
  const Pair pair;
  EXPECT_EQ(
      c10::toString(static_cast<const Swappable&>(pair.function).signature()),
      "forward(Tensor _0, Tensor _1, Tensor _2, Tensor? _3, int _4) -> (Tensor _0, Tensor _1)");
}

}  // namespace
}  // namespace kernelhub
