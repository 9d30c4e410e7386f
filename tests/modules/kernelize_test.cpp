// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/layers/kernelize.h"

#include "expect_error.h"
#include "layer_modules.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

namespace kernelhub {
namespace {

class Kernelize : public testing::Test {
 protected:
  Kernelize() : no_grad_(std::make_unique<at::NoGradGuard>()) {}
  void allow_grad() { no_grad_.reset(); }

  Model model_;
  std::unique_ptr<at::NoGradGuard> no_grad_;
};

const at::Tensor kPlain = (sample() * 2 + 0.5) * 3 + 0.5;
const at::Tensor kSwapped = ((sample() * 2 + 1000.5) * 3 + 1000.5) + 1000;

TEST_F(Kernelize, SwapsMappedLayersAndReportsWhereTheyCameFrom) {
  const ScopedKernelMapping scope(map_layers({"Affine", "Shift"}), InheritMapping::kNo);
  const auto outcomes = kernelize(model_, Mode::kInference);
  ASSERT_EQ(outcomes.size(), 3u);
  EXPECT_EQ(outcomes[0].path, "first");
  EXPECT_EQ(outcomes[0].layer_name, "Affine");
  EXPECT_EQ(outcomes[2].path, "shift");
  for (const LayerOutcome& outcome : outcomes) {
    EXPECT_TRUE(outcome.swapped) << outcome.reason;
    EXPECT_NE(outcome.source.find("torch-stable-abi210-cpu"), std::string::npos) << outcome.source;
    EXPECT_EQ(outcome.reason, "");
  }
  EXPECT_TRUE(model_.forward(sample()).allclose(kSwapped));
}

TEST_F(Kernelize, UnkernelizeRestoresTheModelBitForBit) {
  const at::Tensor before = model_.forward(sample());
  const ScopedKernelMapping scope(map_layers({"Affine", "Shift"}), InheritMapping::kNo);
  kernelize(model_, Mode::kInference);
  unkernelize(model_);
  EXPECT_TRUE(model_.forward(sample()).equal(before));
  EXPECT_TRUE(before.equal(kPlain));
}

TEST_F(Kernelize, TwiceIsTheSameAsOnce) {
  const ScopedKernelMapping scope(map_layers({"Affine", "Shift"}), InheritMapping::kNo);
  kernelize(model_, Mode::kInference);
  kernelize(model_, Mode::kInference);
  EXPECT_TRUE(model_.forward(sample()).allclose(kSwapped));
}

TEST_F(Kernelize, AnotherMappingSwitchesThePackage) {
  const ScopedKernelMapping first(map_layers({"Shift"}), InheritMapping::kNo);
  kernelize(model_, Mode::kInference);
  const ScopedKernelMapping second(map_layers({"Shift"}, "layer_ops_v2"), InheritMapping::kNo);
  kernelize(model_, Mode::kInference);
  EXPECT_TRUE(model_.forward(sample()).allclose(kPlain + 2000));
}

TEST_F(Kernelize, TwoPackagesServeOneModelSideBySide) {
  KernelMapping mapping = map_layers({"Affine"});
  mapping.merge(map_layers({"Shift"}, "layer_ops_v2"));
  const ScopedKernelMapping scope(mapping, InheritMapping::kNo);
  kernelize(model_, Mode::kInference);
  EXPECT_TRUE(model_.forward(sample()).allclose(kSwapped - 1000 + 2000));
}

TEST_F(Kernelize, ALayerWithoutAMappingKeepsItsForwardAndSaysWhy) {
  const ScopedKernelMapping scope(map_layers({"Affine"}), InheritMapping::kNo);
  const auto outcomes = kernelize(model_, Mode::kInference);
  EXPECT_FALSE(outcomes[2].swapped);
  EXPECT_NE(outcomes[2].reason.find("no kernel mapping for layer 'Shift'"), std::string::npos);
  EXPECT_TRUE(model_.forward(sample()).allclose(kSwapped - 1000));
}

TEST_F(Kernelize, StrictFallbackTurnsEachMissIntoItsError) {
  const auto strict = [&](Mode mode, const std::string& device = "cpu") {
    return code_of([&] { kernelize(model_, mode, device, KernelizeFallback::kNone); });
  };
  {
    const ScopedKernelMapping scope(map_layers({"Affine"}), InheritMapping::kNo);
    EXPECT_EQ(strict(Mode::kInference), ErrorCode::kNoLayerMapping);
    EXPECT_EQ(strict(Mode::kInference, "xpu"), ErrorCode::kNoDeviceMapping);
  }
  {
    const ScopedKernelMapping scope(
        {{"Affine", {{Device("cuda", CapabilityRange{1, 2}), package("Affine")}}}},
        InheritMapping::kNo);
    EXPECT_EQ(strict(Mode::kInference, "cuda"), ErrorCode::kNoCompatibleProperties);
  }
  const ScopedKernelMapping scope(map_mode("Affine", Mode::kTraining), InheritMapping::kNo);
  EXPECT_EQ(strict(Mode::kInference | Mode::kTorchCompile), ErrorCode::kNoCompatibleMode);
}

TEST_F(Kernelize, AFailingLayerLeavesTheWholeModelAsItWas) {
  KernelMapping mapping = map_layers({"Affine"});
  mapping["Shift"] = {{Device("cpu"), package("NoSuchOp")}};
  const ScopedKernelMapping scope(mapping, InheritMapping::kNo);
  EXPECT_EQ(code_of([&] { kernelize(model_, Mode::kInference); }), ErrorCode::kOpNotFound);
  EXPECT_TRUE(model_.forward(sample()).equal(kPlain));
  EXPECT_EQ(static_cast<Swappable&>(*model_.first).bound(), nullptr);
}

TEST_F(Kernelize, AFailingLayerKeepsTheKernelsOfBefore) {
  const ScopedKernelMapping good(map_layers({"Affine", "Shift"}), InheritMapping::kNo);
  kernelize(model_, Mode::kInference);
  KernelMapping mapping = map_layers({"Affine"});
  mapping["Shift"] = {{Device("cpu"), package("WrongArity")}};
  const ScopedKernelMapping bad(mapping, InheritMapping::kNo);
  EXPECT_EQ(code_of([&] { kernelize(model_, Mode::kInference); }), ErrorCode::kInvalidBinding);
  EXPECT_TRUE(model_.forward(sample()).allclose(kSwapped));
}

TEST_F(Kernelize, AMissingPackageFallsBackOnlyWhereCannotLoadIsAllowed) {
  const ScopedKernelMapping scope({{"Shift", {{Device("cpu"), package("Shift", "absent")}}}},
                                  InheritMapping::kNo);
  EXPECT_NE(code_of([&] { kernelize(model_, Mode::kInference); }), std::nullopt);
  EXPECT_TRUE(model_.forward(sample()).equal(kPlain));
}

TEST_F(Kernelize, ALayerThatThePackageDoesNotHaveIsNamed) {
  const ScopedKernelMapping scope({{"Shift", {{Device("cpu"), package("Absent")}}}},
                                  InheritMapping::kNo);
  const auto outcomes = kernelize(model_, Mode::kInference);
  EXPECT_NE(outcomes[2].reason.find("no native layer 'Absent'"), std::string::npos);
  EXPECT_NE(outcomes[2].reason.find("Affine"), std::string::npos);
  EXPECT_EQ(
      code_of([&] { kernelize(*model_.shift, Mode::kInference, "cpu", KernelizeFallback::kNone); }),
      ErrorCode::kNoNativeLayer);
}

TEST_F(Kernelize, TrainingKeepsLayersWithoutABackward) {
  const ScopedKernelMapping scope(map_layers({"Affine", "Shift"}), InheritMapping::kNo);
  for (const LayerOutcome& outcome : kernelize(model_, Mode::kTraining)) {
    EXPECT_FALSE(outcome.swapped);
    EXPECT_NE(outcome.reason.find("does not support mode TRAINING"), std::string::npos);
  }
}

TEST_F(Kernelize, CompileModeTakesOnlyLayersThatCompile) {
  const ScopedKernelMapping scope(map_layers({"Affine", "Shift"}), InheritMapping::kNo);
  const auto outcomes = kernelize(model_, Mode::kInference | Mode::kTorchCompile);
  EXPECT_TRUE(outcomes[0].swapped);
  EXPECT_FALSE(outcomes[2].swapped);
}

TEST_F(Kernelize, AnEntryThatPromisesMoreThanItsLayerHasIsAnErrorInEveryFallback) {
  for (const Mode mode : {Mode::kInference | Mode::kTorchCompile, Mode::kTraining}) {
    const ScopedKernelMapping scope(map_mode("Shift", mode), InheritMapping::kNo);
    EXPECT_EQ(code_of([&] { kernelize(model_, Mode::kInference, "cpu", KernelizeFallback::kAll); }),
              ErrorCode::kNoCompatibleMode);
  }
}

TEST_F(Kernelize, AConditionThatIsFalseGivesTheForwardBack) {
  const ScopedKernelMapping scope(map_layers({"Affine", "Shift"}), InheritMapping::kNo);
  kernelize(model_, Mode::kInference);
  model_.first->swappable = false;
  const auto outcomes = kernelize(model_, Mode::kInference);
  EXPECT_FALSE(outcomes[0].swapped);
  EXPECT_TRUE(model_.forward(sample()).allclose(kSwapped - 3000));
}

TEST_F(Kernelize, NamesTheMissingDeviceOfAModelWithoutParameters) {
  Named lone("Shift");
  EXPECT_EQ(code_of([&] { kernelize(lone, Mode::kInference); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { kernelize(model_, Mode::kInference, "cuda:0"); }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { kernelize(model_, Mode::kFallback); }), ErrorCode::kInvalidMode);
}

TEST_F(Kernelize, ASharedModuleIsReportedOnce) {
  torch::nn::Module parent;
  const auto shared = std::make_shared<Affine>();
  parent.register_module("a", shared);
  parent.register_module("b", shared);
  const ScopedKernelMapping scope(map_layers({"Affine"}), InheritMapping::kNo);
  EXPECT_EQ(kernelize(parent, Mode::kInference).size(), 1u);
}

TEST_F(Kernelize, ACloneOfAKernelizedModelReadsItsOwnParameters) {
  const ScopedKernelMapping scope(map_layers({"Affine", "Shift"}), InheritMapping::kNo);
  auto model = std::make_shared<Model>();
  kernelize(*model, Mode::kInference);
  const auto copy = std::dynamic_pointer_cast<Model>(model->clone());
  copy->first->weight.fill_(10);
  model.reset();
  EXPECT_TRUE(copy->first->forward(sample()).allclose(sample() * 20 + 1000.5));
}

TEST_F(Kernelize, AGuardThatDoesNotHoldRunsTheOwnForward) {
  const ScopedKernelMapping scope(map_layers({"Affine"}), InheritMapping::kNo);
  kernelize(model_, Mode::kInference);
  const at::Tensor doubles = sample().to(at::kDouble);
  EXPECT_TRUE(model_.first->forward(doubles).allclose(doubles * 2 + 0.5));
  const at::Tensor deep = sample().view({1, 1, 2, 3});
  EXPECT_TRUE(model_.first->forward(deep).equal(deep * 2 + 0.5));
  EXPECT_TRUE(model_.first->forward(sample()).allclose(sample() * 2 + 1000.5));
}

TEST_F(Kernelize, AGuardIsAnErrorWhereNoFallbackIsAllowed) {
  const ScopedKernelMapping scope(map_layers({"Affine", "Shift"}), InheritMapping::kNo);
  kernelize(model_, Mode::kInference, "cpu", KernelizeFallback::kNone);
  EXPECT_EQ(code_of([&] { model_.first->forward(sample().to(at::kDouble)); }),
            ErrorCode::kGuardNotMet);
}

TEST_F(Kernelize, GradientsAreNeverDetached) {
  const ScopedKernelMapping scope(map_layers({"Affine", "Shift"}), InheritMapping::kNo);
  kernelize(model_, Mode::kInference);
  allow_grad();
  const at::Tensor y = model_.first->forward(sample());
  EXPECT_TRUE(y.requires_grad());
  EXPECT_TRUE(y.equal(sample() * 2 + 0.5));
  const at::Tensor x = sample().set_requires_grad(true);
  EXPECT_TRUE(model_.shift->forward(x).equal(x));
  EXPECT_TRUE(model_.shift->forward(sample()).allclose(sample() + 1000));
}

TEST_F(Kernelize, StridedInputsAreMadeContiguousWhereTheBindingSaysSo) {
  const ScopedKernelMapping scope(map_layers({"Shift"}), InheritMapping::kNo);
  kernelize(model_, Mode::kInference);
  EXPECT_TRUE(model_.shift->forward(sample().t()).allclose(sample().t() + 1000));
}

TEST_F(Kernelize, ResultsByIndexShapesAndDimsFollowTheBinding) {
  Named returned("Returned"), fold("Fold");
  const ScopedKernelMapping scope(map_layers({"Returned", "Fold"}), InheritMapping::kNo);
  kernelize(returned, Mode::kInference, "cpu");
  kernelize(fold, Mode::kInference, "cpu");
  const at::Tensor x = at::arange(16, at::kFloat).view({2, 2, 4});
  EXPECT_TRUE(returned.forward(x).equal(x + 1000));
  EXPECT_TRUE(fold.forward(x).equal(x.narrow(2, 0, 2) + x.narrow(2, 2, 2) + 1000));
  EXPECT_EQ(code_of([&] { fold.forward(at::arange(3, at::kFloat)); }), ErrorCode::kGuardNotMet);
}

}  // namespace
}  // namespace kernelhub
