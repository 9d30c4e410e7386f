// SPDX-License-Identifier: Apache-2.0
// Bindings with a backward: gradients of kernelized layers in a process without Python.
#include "expect_error.h"
#include "layer_modules.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/ones_like.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>

namespace kernelhub {
namespace {

at::Tensor input() { return (sample() + 1).set_requires_grad(true); }

void swap(torch::nn::Module& module, const KernelMapping& mapping, Mode mode = Mode::kTraining,
          KernelizeFallback fallback = KernelizeFallback::kNone) {
  const ScopedKernelMapping scope(mapping, InheritMapping::kNo);
  kernelize(module, mode, "cpu", fallback);
}

std::vector<at::Tensor> grads(const at::Tensor& y, const std::vector<at::Tensor>& inputs,
                              const at::Tensor& grad, bool create_graph = false) {
  return torch::autograd::grad({y}, inputs, {grad}, /*retain_graph=*/true, create_graph);
}

class RecordedCall : public testing::Test {
 protected:
  Affine affine_{"TrainedAffine"};
  Named inverse_{"Inverse"};
  Named square_{"Square"};
  Pair pair_;
};

TEST_F(RecordedCall, GivesTheGradientsOfInputsAndParameters) {
  swap(affine_, map_layers({"TrainedAffine"}));
  const at::Tensor x = input();
  const at::Tensor weight = sample() - 2;
  const at::Tensor y = affine_.forward(x);
  EXPECT_EQ(y.grad_fn()->name(), "kernelhub::TrainedAffine");
  EXPECT_TRUE(y.detach().equal(x.detach() * 2 + 1000.5));
  const auto given = grads(y, {x, affine_.weight, affine_.bias}, weight);
  const auto wanted =
      grads(affine_.reference_forward(x), {x, affine_.weight, affine_.bias}, weight);
  for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_TRUE(given[i].equal(wanted[i])) << i;
}

TEST_F(RecordedCall, TrainingModeAndItsEntryTakeALayerWithABackward) {
  const ScopedKernelMapping scope(map_mode("TrainedAffine", Mode::kTraining), InheritMapping::kNo);
  for (const Mode mode : {Mode::kTraining, Mode::kInference}) {
    const auto outcomes = kernelize(affine_, mode, "cpu", KernelizeFallback::kNone);
    EXPECT_TRUE(outcomes[0].swapped) << outcomes[0].reason;
  }
}

TEST_F(RecordedCall, AnExpandedGradientIsMadeContiguousWhereTheBindingSaysSo) {
  swap(affine_, map_layers({"TrainedAffine"}));
  const at::Tensor x = input();
  affine_.forward(x).sum().backward();
  EXPECT_TRUE(x.grad().equal(at::full_like(x, 2.0)));
  EXPECT_TRUE(affine_.bias.grad().equal(at::full({3}, 2.0)));
}

TEST_F(RecordedCall, OnlyTheGradientsThatAreAskedForAreGiven) {
  swap(affine_, map_layers({"TrainedAffine"}));
  affine_.weight.set_requires_grad(false);
  affine_.bias.set_requires_grad(false);
  const at::Tensor x = input();
  affine_.forward(x).sum().backward();
  EXPECT_TRUE(x.grad().equal(at::full_like(x, 2.0)));
  EXPECT_FALSE(affine_.weight.grad().defined());
  affine_.weight.set_requires_grad(true);
  affine_.forward(sample()).sum().backward();
  EXPECT_TRUE(affine_.weight.grad().equal(sample().sum(0) * 2));
  EXPECT_FALSE(affine_.bias.grad().defined());
}

TEST_F(RecordedCall, WithoutGradientsNothingIsRecorded) {
  swap(affine_, map_layers({"TrainedAffine"}));
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(affine_.forward(input()).requires_grad());
}

TEST_F(RecordedCall, AnOptionalOutputIsGivenOnlyWhereItsGradientIsAskedFor) {
  Affine affine("AffineOut");
  swap(affine, map_layers({"AffineOut"}));
  const at::Tensor x = input();
  const at::Tensor all = affine.forward(x);
  EXPECT_TRUE(grads(all, {x, affine.weight, affine.bias}, at::ones_like(all))[0].equal(
      at::full_like(x, 2.0)));
  all.sum().backward();
  EXPECT_TRUE(affine.weight.grad().equal(x.detach().sum(0) * 2));
  EXPECT_TRUE(affine.bias.grad().equal(at::full({3}, 2.0)));
  affine.bias.set_requires_grad(false);
  const at::Tensor some = affine.forward(x);
  EXPECT_TRUE(
      grads(some, {x, affine.weight}, at::ones_like(some))[0].equal(at::full_like(x, 102.0)));
  EXPECT_TRUE(grads(some, {x}, at::ones_like(some))[0].equal(at::full_like(x, 202.0)));
}

TEST_F(RecordedCall, TheBackwardReadsASavedResult) {
  swap(inverse_, map_layers({"Inverse"}));
  const at::Tensor x = input();
  const at::Tensor y = inverse_.forward(x);
  EXPECT_TRUE(y.detach().allclose(1000 / x.detach()));
  EXPECT_TRUE(grads(y, {x}, sample())[0].allclose(-1000 * sample() / (x * x).detach()));
}

TEST_F(RecordedCall, AnEditOfASavedResultIsNoticed) {
  swap(inverse_, map_layers({"Inverse"}));
  swap(square_, map_layers({"Square"}));
  for (Named* layer : {&inverse_, &square_}) {
    const at::Tensor x = input();
    at::Tensor y = layer->forward(x);
    y.mul_(2);
    if (layer == &square_) {  // reads the slope, not the result
      EXPECT_TRUE(grads(y, {x}, at::ones_like(y))[0].equal(4 * x.detach()));
    } else {
      EXPECT_THROW(grads(y, {x}, at::ones_like(y)), c10::Error);
    }
  }
}

TEST_F(RecordedCall, AReshapedResultIsSavedAsTheOpGaveItAndItsEditsAreNoticed) {
  Named flattened("Flattened");  // its backward multiplies with the result
  swap(flattened, map_layers({"Flattened"}));
  const at::Tensor x = at::arange(12, at::kFloat).view({2, 2, 3}).set_requires_grad(true);
  at::Tensor y = flattened.forward(x);
  EXPECT_EQ(y.sizes(), x.sizes());
  const at::Tensor grad = grads(y, {x}, at::full_like(y, 3))[0];
  EXPECT_EQ(grad.sizes(), x.sizes());
  EXPECT_TRUE(grad.equal(3 * y.detach()));
  y.mul_(2);
  EXPECT_THROW(grads(y, {x}, at::ones_like(y)), c10::Error);
}

TEST_F(RecordedCall, AnEditOfASavedInputIsNoticed) {
  swap(affine_, map_layers({"TrainedAffine"}));
  const at::Tensor leaf = input();
  at::Tensor x = leaf * 1;
  const at::Tensor y = affine_.forward(x);
  x.mul_(2);
  EXPECT_THROW(grads(y, {leaf}, at::ones_like(y)), c10::Error);
}

TEST_F(RecordedCall, AnotherCallMayRunTheForwardThatTrains) {
  swap(square_, map_layers({"Square"}));
  const at::Tensor x = (at::arange(12, at::kFloat).view({2, 2, 3})).set_requires_grad(true);
  {
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(square_.forward(x).equal(x + 1000));
  }
  const at::Tensor y = square_.forward(x);
  EXPECT_TRUE(y.detach().equal(x.detach() * x.detach() + 1000));
  const at::Tensor grad = grads(y, {x}, at::full_like(y, 3))[0];
  EXPECT_TRUE(grad.equal(6 * x.detach()));
  EXPECT_EQ(grad.sizes(), x.sizes());
}

TEST_F(RecordedCall, ScalarsAreThoseOfTheForward) {
  swap(affine_, map_layers({"TrainedAffine"}));
  const at::Tensor x = input();
  const at::Tensor y = affine_.forward(x);
  affine_.scale = 7;
  EXPECT_TRUE(grads(y, {x}, at::ones_like(y))[0].equal(at::full_like(x, 2.0)));
}

TEST_F(RecordedCall, ASecondDerivativeIsAnErrorAndNeverAZero) {
  swap(affine_, map_layers({"TrainedAffine"}));
  const at::Tensor x = input();
  const at::Tensor y = affine_.forward(x);
  const at::Tensor first = grads(y, {x}, at::ones_like(y), /*create_graph=*/true)[0];
  EXPECT_TRUE(first.detach().equal(at::full_like(x, 2.0)));
  EXPECT_TRUE(first.requires_grad());
  try {
    first.sum().backward();
    FAIL() << "a second derivative was given";
  } catch (const std::exception& error) {
    EXPECT_NE(std::string(error.what()).find("TrainedAffine"), std::string::npos) << error.what();
  }
}

TEST_F(RecordedCall, ASecondBackwardNeedsARetainedGraph) {
  swap(inverse_, map_layers({"Inverse"}));
  const at::Tensor x = input();
  const at::Tensor y = inverse_.forward(x).sum();
  y.backward();
  EXPECT_THROW(y.backward(), c10::Error);
}

TEST_F(RecordedCall, TheGraphKeepsThePackageOfAModelThatIsGone) {
  auto module = std::make_shared<Named>("Inverse");
  swap(*module, map_layers({"Inverse"}));
  const at::Tensor x = input();
  const at::Tensor y = module->forward(x);
  unkernelize(*module);
  module.reset();
  EXPECT_TRUE(grads(y, {x}, at::ones_like(y))[0].allclose(-1000 / (x * x).detach()));
}

TEST_F(RecordedCall, SeveralResultsEachHaveAGradient) {
  swap(pair_, map_layers({"ScalePair"}), Mode::kTraining, KernelizeFallback::kDefault);
  const at::Tensor q = input(), k = at::ones({4}).set_requires_grad(true);
  const at::Tensor factor = at::full({1}, 3.0);
  const auto [q_out, k_out] = pair_.forward(q, k, factor, std::nullopt, 2);
  EXPECT_TRUE(q_out.detach().equal(q.detach() * 3 + 1000));
  EXPECT_TRUE(k_out.detach().equal(k.detach() * 6 + 1000));
  (q_out.sum() + 5 * k_out.sum()).backward();
  EXPECT_TRUE(q.grad().equal(at::full_like(q, 3)));
  EXPECT_TRUE(k.grad().equal(at::full_like(k, 30)));
}

TEST_F(RecordedCall, AResultThatIsNotUsedCountsAsAZeroGradient) {
  swap(pair_, map_layers({"ScalePair"}), Mode::kTraining, KernelizeFallback::kDefault);
  const at::Tensor q = input(), k = at::ones({4}).set_requires_grad(true);
  std::get<1>(pair_.forward(q, k, at::full({1}, 3.0), std::nullopt, 1)).sum().backward();
  EXPECT_TRUE(q.grad().equal(at::full_like(q, 0)));
  EXPECT_TRUE(k.grad().equal(at::full_like(k, 3)));
}

TEST_F(RecordedCall, AnOutputThatHoldsTwoGradientsIsMadeForEither) {
  KernelMapping mapping = map_layers({"ScalePair"});
  mapping["ScalePair"] = {{Device("cpu"), package("SharedGrad")}};
  swap(pair_, mapping, Mode::kTraining, KernelizeFallback::kDefault);
  for (const bool first : {true, false}) {
    const at::Tensor q = sample().set_requires_grad(first);
    const at::Tensor k = sample().set_requires_grad(!first);
    std::get<0>(pair_.forward(q, k, at::full({1}, 3.0), std::nullopt, 1)).sum().backward();
    EXPECT_TRUE((first ? q : k).grad().equal(at::full_like(q, 3))) << first;
  }
}

TEST_F(RecordedCall, AListShorterThanTheBindingSaysIsAnErrorOfTheBinding) {
  Affine affine("ShortList");
  swap(affine, map_layers({"ShortList"}), Mode::kInference);
  const at::NoGradGuard no_grad;
  EXPECT_EQ(code_of([&] { affine.forward(sample()); }), ErrorCode::kInvalidBinding);
}

TEST_F(RecordedCall, AnOptionalArgumentReachesTheOp) {
  swap(pair_, map_layers({"ScalePair"}), Mode::kInference, KernelizeFallback::kDefault);
  const at::NoGradGuard no_grad;
  const at::Tensor q = sample(), gate = sample() * 10;
  const auto [gated, k] = pair_.forward(q, q, at::full({1}, 3.0), gate, 1);
  EXPECT_TRUE(gated.equal(q * 3 + gate + 1000));
}

TEST_F(RecordedCall, AGradientThatTheBackwardDoesNotGiveRunsTheOwnForward) {
  swap(pair_, map_layers({"ScalePair"}), Mode::kTraining, KernelizeFallback::kDefault);
  const at::Tensor q = input(), factor = at::full({1}, 3.0).set_requires_grad(true);
  const auto [q_out, k_out] = pair_.forward(q, q, factor, std::nullopt, 1);
  EXPECT_TRUE(q_out.detach().equal(q.detach() * 3));
  q_out.sum().backward();
  EXPECT_EQ(factor.grad().item<float>(), q.detach().sum().item<float>());
}

TEST_F(RecordedCall, AGradientThatTheBackwardDoesNotGiveIsAnErrorWithoutFallback) {
  KernelMapping mapping = map_layers({"ScalePair"});
  mapping["scale_pair"] = {{Device("cpu"), package("ScalePair")}};
  swap(pair_, mapping);
  const at::Tensor factor = at::full({1}, 3.0).set_requires_grad(true);
  EXPECT_EQ(code_of([&] { pair_.forward(sample(), sample(), factor, std::nullopt, 1); }),
            ErrorCode::kGuardNotMet);
}

TEST_F(RecordedCall, AFunctionIsSwappedWithoutBeingAModule) {
  torch::nn::Module model;
  const auto pair = std::make_shared<Pair>();
  model.register_module("attention", pair);
  const ScopedKernelMapping scope({{"scale_pair", {{Device("cpu"), package("ScalePair")}}}},
                                  InheritMapping::kNo);
  const auto outcomes = kernelize(model, Mode::kInference, "cpu");
  ASSERT_EQ(outcomes.size(), 2u);
  EXPECT_EQ(outcomes[0].path, "attention.scale_pair");
  EXPECT_TRUE(outcomes[0].swapped);
  EXPECT_EQ(outcomes[1].path, "attention");
  EXPECT_FALSE(outcomes[1].swapped);
  const at::Tensor q = input();
  const auto [q_out, k_out] = pair->function(q, q, at::full({1}, 3.0), std::nullopt, 1);
  EXPECT_TRUE(q_out.detach().equal(q.detach() * 3 + 1000));
  EXPECT_TRUE(q_out.requires_grad());
  const auto copy = std::dynamic_pointer_cast<Pair>(pair->clone());
  EXPECT_NE(copy->function.bound(), nullptr);
  unkernelize(model);
  EXPECT_EQ(pair->function.bound(), nullptr);
  EXPECT_EQ(
      std::get<0>(pair->function(q, q, at::full({1}, 3.0), std::nullopt, 1)).sum().item<float>(),
      (q * 3).sum().item<float>());
}

TEST_F(RecordedCall, AFunctionHasNoParametersToGive) {
  Pair pair;
  const ScopedKernelMapping scope({{"scale_pair", {{Device("cpu"), package("PairWithParameter")}}}},
                                  InheritMapping::kNo);
  EXPECT_EQ(code_of([&] { kernelize(pair, Mode::kInference, "cpu"); }),
            ErrorCode::kMissingAttribute);
}

}  // namespace
}  // namespace kernelhub
