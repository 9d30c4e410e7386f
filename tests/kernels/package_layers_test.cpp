// SPDX-License-Identifier: Apache-2.0
// Every native layer of the packages as a C++ model gets it: values and gradients in fp64 against
// the formula under torch's own autograd. No Python in this process.
#include "kernelhub/layers/kernel_function.h"
#include "kernelhub/layers/kernel_mapping.h"
#include "kernelhub/layers/kernelize.h"
#include "kernelhub/layers/replaceable.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/where.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/nn/module.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace kernelhub {
namespace {

constexpr double kEps = 1e-3, kThreshold = 0.25;
constexpr double kAllowed = 1e-12;  // max abs; values and gradients are below 10

/// Has what any of the layers reads: weight and bias, an epsilon as the model names it, a
/// threshold.
class AnyLayer : public torch::nn::Module,
                 public Replaceable<AnyLayer, at::Tensor(const at::Tensor&)> {
 public:
  using Formula = at::Tensor (*)(const AnyLayer&, const at::Tensor&);

  AnyLayer(std::string name, Formula formula, bool has_weight = true, bool has_bias = true)
      : name_(std::move(name)), formula_(formula) {
    if (has_weight) weight = register_parameter("weight", at::linspace(0.5, 2, 8, at::kDouble));
    if (has_bias) bias = register_parameter("bias", at::linspace(-1, 1, 8, at::kDouble));
    const bool is_llama = name_ == "RMSNorm" || name_ == "LlamaRMSNorm";
    if (is_llama) KERNELHUB_ATTR("variance_epsilon", eps_);
    if (!is_llama) KERNELHUB_ATTR("eps", eps_);
    KERNELHUB_ATTR("threshold", threshold_);
  }
  std::string_view kernel_layer_name() const override { return name_; }
  at::Tensor reference_forward(const at::Tensor& x) const { return formula_(*this, x); }

  at::Tensor weight, bias;

 private:
  std::string name_;
  Formula formula_;
  double eps_ = kEps;
  double threshold_ = kThreshold;
};

at::Tensor half(const at::Tensor& x, int index) { return x.chunk(2, -1)[index]; }
at::Tensor tanh_gelu(const at::Tensor& x, double root = std::sqrt(2 / M_PI)) {
  return 0.5 * x * (1 + at::tanh(root * (x + 0.044715 * x * x * x)));
}
constexpr double kShortRoot = 0.79788456;  // as the two forms of transformers round sqrt(2 / pi)
at::Tensor normed(const at::Tensor& x) {
  return x * at::rsqrt((x * x).mean(-1, /*keepdim=*/true) + kEps);
}
at::Tensor rms_norm(const AnyLayer& layer, const at::Tensor& x) { return layer.weight * normed(x); }

struct Case {
  const char* package;
  const char* layer;
  AnyLayer::Formula formula;
  bool reads_weight = false, reads_bias = false;
};
void PrintTo(const Case& c, std::ostream* stream) { *stream << c.package << ' ' << c.layer; }

class PackageLayer : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const char* packages = std::getenv("KERNELHUB_PACKAGES_DIR");
    ASSERT_NE(packages, nullptr);
    folder_ = std::filesystem::path(packages) / GetParam().package;
    ASSERT_TRUE(std::filesystem::exists(folder_ / "build")) << folder_ << " is not built";
  }
  AnyLayer& layer() { return layer_; }
  void kernelize_for(Mode mode, const char* layer) {
    const KernelMapping mapping = {
        {layer, {{Device("cpu"), LayerRepository::local(folder_, layer)}}}};
    const ScopedKernelMapping scope(mapping, InheritMapping::kNo);
    kernelize(layer_, mode, "cpu", KernelizeFallback::kNone);
  }

 private:
  std::filesystem::path folder_;
  AnyLayer layer_{GetParam().layer, GetParam().formula};
};

at::Tensor input() { return at::linspace(-3, 4, 48, at::kDouble).view({2, 3, 8}).clone(); }

double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST_P(PackageLayer, GivesTheFormulaInInference) {
  kernelize_for(Mode::kInference, GetParam().layer);
  const at::NoGradGuard no_grad;
  const at::Tensor wanted = layer().reference_forward(input());
  EXPECT_LE(difference(layer().forward(input()), wanted), kAllowed);
  // A view of a wider buffer and one of other strides.
  const at::Tensor turned = input().transpose(0, 1);
  EXPECT_LE(difference(layer().forward(turned), layer().reference_forward(turned)), kAllowed);
}

TEST_P(PackageLayer, GivesTheGradientsOfTheFormula) {
  kernelize_for(Mode::kTraining, GetParam().layer);
  const at::Tensor x = input().set_requires_grad(true);
  std::vector<at::Tensor> inputs = {x};
  if (GetParam().reads_weight) inputs.push_back(layer().weight);
  if (GetParam().reads_bias) inputs.push_back(layer().bias);
  const at::Tensor y = layer().forward(x);
  EXPECT_EQ(y.grad_fn()->name(), std::string("kernelhub::") + GetParam().layer);
  const at::Tensor wanted = layer().reference_forward(x);
  const at::Tensor grad = at::linspace(1, -1, wanted.numel(), at::kDouble).view(wanted.sizes());
  const auto given = torch::autograd::grad({y}, inputs, {grad});
  const auto expected = torch::autograd::grad({wanted}, inputs, {grad});
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_LE(difference(given[i], expected[i]), kAllowed * 10) << "gradient " << i;
  }
}

at::Tensor layer_norm(const AnyLayer& layer, const at::Tensor& x) {
  return at::layer_norm(x, {8}, layer.weight, layer.bias, kEps);
}

/// LayerNorm of the package, for modules beyond those of fp64 with a weight and a bias.
class PackageLayerNorm : public testing::Test {
 protected:
  void SetUp() override {
    const char* packages = std::getenv("KERNELHUB_PACKAGES_DIR");
    ASSERT_NE(packages, nullptr);
    const auto layer = LayerRepository::local(std::string(packages) + "/layer-norm", "LayerNorm");
    mapping_ = {{"LayerNorm", {{Device("cpu"), layer}}}};
  }
  void kernelize_for_training(AnyLayer& layer) const {
    const ScopedKernelMapping scope(mapping_, InheritMapping::kNo);
    kernelize(layer, Mode::kTraining, "cpu", KernelizeFallback::kNone);
  }

 private:
  KernelMapping mapping_;
};

TEST_F(PackageLayerNorm, ServesModulesWithoutWeightOrBias) {
  for (const auto& [has_weight, has_bias] :
       {std::pair(true, false), std::pair(false, true), std::pair(false, false)}) {
    AnyLayer layer("LayerNorm", layer_norm, has_weight, has_bias);
    kernelize_for_training(layer);
    const at::Tensor x = input().set_requires_grad(true);
    const at::Tensor y = layer.forward(x), wanted = layer.reference_forward(x);
    EXPECT_EQ(y.grad_fn()->name(), "kernelhub::LayerNorm");
    EXPECT_LE(difference(y, wanted), kAllowed);
    std::vector<at::Tensor> inputs = layer.parameters();
    inputs.push_back(x);
    const at::Tensor grad = at::linspace(1, -1, wanted.numel(), at::kDouble).view(wanted.sizes());
    const auto given = torch::autograd::grad({y}, inputs, {grad});
    const auto expected = torch::autograd::grad({wanted}, inputs, {grad});
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      EXPECT_LE(difference(given[i], expected[i]), kAllowed * 10) << has_weight << has_bias << i;
    }
  }
}

/// fp32 parameters of a norm beside bf16 activations: the dtypes of torch's own layer_norm.
TEST_F(PackageLayerNorm, TakesParametersOfFp32BesideBf16) {
  AnyLayer layer("LayerNorm", layer_norm);
  layer.to(at::kFloat);
  kernelize_for_training(layer);
  const at::Tensor x = input().to(at::kBFloat16).set_requires_grad(true);
  const at::Tensor y = layer.forward(x);
  EXPECT_EQ(y.scalar_type(), layer.reference_forward(x).scalar_type());
  AnyLayer wide("LayerNorm", layer_norm);
  const at::Tensor wide_x = x.detach().to(at::kDouble).set_requires_grad(true);
  const at::Tensor wanted = wide.reference_forward(wide_x);
  constexpr double kStep = 1.0 / 64;  // half of a step of bf16 between 4 and 8
  EXPECT_LE(difference(y, wanted), kStep);
  const auto given = torch::autograd::grad({y}, {x, layer.weight, layer.bias}, {at::ones_like(y)});
  const auto expected =
      torch::autograd::grad({wanted}, {wide_x, wide.weight, wide.bias}, {at::ones_like(wanted)});
  EXPECT_EQ(given[0].scalar_type(), at::kBFloat16);
  EXPECT_EQ(given[1].scalar_type(), at::kFloat);
  EXPECT_EQ(given[2].scalar_type(), at::kFloat);
  EXPECT_LE(difference(given[0], expected[0]), kStep);
  EXPECT_LE(difference(given[1], expected[1]), 1e-5);
  EXPECT_LE(difference(given[2], expected[2]), 1e-5);
}

using Pair = std::tuple<at::Tensor, at::Tensor>;

Pair rotate(const at::Tensor& q, const at::Tensor& k, const at::Tensor& cos, const at::Tensor& sin,
            std::int64_t unsqueeze_dim) {
  const auto turn = [&](const at::Tensor& x) {
    const at::Tensor turned = at::cat({-half(x, 1), half(x, 0)}, -1);
    return x * cos.unsqueeze(unsqueeze_dim) + turned * sin.unsqueeze(unsqueeze_dim);
  };
  return {turn(q), turn(k)};
}

/// A model's rotary function, with heads before or after the tokens.
class Rotary : public torch::nn::Module, public KernelFunctionOwner {
 public:
  std::vector<Swappable*> kernel_functions() override { return {&rotary}; }
  KernelFunction<Pair(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                      std::int64_t)>
      rotary{"rotary_pos_emb", rotate};
};

TEST(PackageFunction, RotaryGivesTheFormulaAndItsGradients) {
  const char* packages = std::getenv("KERNELHUB_PACKAGES_DIR");
  ASSERT_NE(packages, nullptr);
  const ScopedKernelMapping scope(
      {{"rotary_pos_emb",
        {{Device("cpu"), LayerRepository::local(std::string(packages) + "/rotary",
                                                "apply_rotary_transformers")}}}},
      InheritMapping::kNo);
  Rotary model;
  kernelize(model, Mode::kTraining, "cpu", KernelizeFallback::kNone);
  const at::Tensor angles = at::linspace(0, 9, 2 * 3 * 4, at::kDouble).view({2, 3, 4});
  const at::Tensor both = at::cat({angles, angles}, -1);
  for (const std::int64_t unsqueeze_dim : {1, 2}) {
    // 4 heads of q and 2 of k, 3 tokens, 8 lanes; a transposed view, as models have it.
    const auto leaf = [&](std::int64_t heads) {
      const at::Tensor x = at::linspace(-2, 3, 2 * 3 * heads * 8, at::kDouble);
      return x.view({2, 3, heads, 8})
          .transpose(1, 3 - unsqueeze_dim)
          .detach()
          .set_requires_grad(true);
    };
    const at::Tensor q = leaf(4), k = leaf(2);
    const auto [q_given, k_given] = model.rotary(q, k, both.cos(), both.sin(), unsqueeze_dim);
    const auto [q_wanted, k_wanted] = rotate(q, k, both.cos(), both.sin(), unsqueeze_dim);
    EXPECT_EQ(q_given.grad_fn()->name(), "kernelhub::apply_rotary_transformers");
    EXPECT_LE(difference(q_given, q_wanted), kAllowed);
    EXPECT_LE(difference(k_given, k_wanted), kAllowed);
    const at::Tensor q_grad = q_wanted.detach().cos(), k_grad = k_wanted.detach().cos();
    const auto given = torch::autograd::grad({q_given, k_given}, {q, k}, {q_grad, k_grad});
    const auto wanted = torch::autograd::grad({q_wanted, k_wanted}, {q, k}, {q_grad, k_grad});
    EXPECT_LE(difference(given[0], wanted[0]), kAllowed);
    EXPECT_LE(difference(given[1], wanted[1]), kAllowed);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Activation, PackageLayer,
    testing::Values(
        Case{"activation", "Silu", [](const auto&, const auto& x) { return at::silu(x); }},
        Case{"activation", "Gelu", [](const auto&, const auto& x) { return at::gelu(x); }},
        Case{"activation", "GeluTanh", [](const auto&, const auto& x) { return tanh_gelu(x); }},
        Case{"activation", "NewGELU",
             [](const auto&, const auto& x) { return tanh_gelu(x, kShortRoot); }},
        Case{"activation", "FastGELU",
             [](const auto&, const auto& x) { return tanh_gelu(x, kShortRoot); }},
        Case{"activation", "QuickGELU",
             [](const auto&, const auto& x) { return x * at::sigmoid(1.702 * x); }},
        Case{"activation", "SiluAndMul",
             [](const auto&, const auto& x) { return at::silu(half(x, 0)) * half(x, 1); }},
        Case{"activation", "MulAndSilu",
             [](const auto&, const auto& x) { return half(x, 0) * at::silu(half(x, 1)); }},
        Case{"activation", "GeluAndMul",
             [](const auto&, const auto& x) { return at::gelu(half(x, 0)) * half(x, 1); }},
        Case{"activation", "GeluTanhAndMul",
             [](const auto&, const auto& x) { return tanh_gelu(half(x, 0)) * half(x, 1); }},
        Case{"activation", "FatreluAndMul", [](const auto&, const auto& x) {
               return at::where(half(x, 0) > kThreshold, half(x, 0), 0.0) * half(x, 1);
             }}));

INSTANTIATE_TEST_SUITE_P(Relu, PackageLayer,
                         testing::Values(Case{"relu", "ReLU", [](const auto&, const auto& x) {
                                                return at::relu(x);
                                              }}));

INSTANTIATE_TEST_SUITE_P(RmsNorm, PackageLayer,
                         testing::Values(Case{"rmsnorm", "RMSNorm", rms_norm,
                                              /*reads_weight=*/true},
                                         Case{"rmsnorm", "LlamaRMSNorm", rms_norm,
                                              /*reads_weight=*/true},
                                         Case{"rmsnorm", "GemmaRMSNorm",
                                              [](const AnyLayer& layer, const at::Tensor& x) {
                                                return (1 + layer.weight) * normed(x);
                                              },
                                              /*reads_weight=*/true}));

INSTANTIATE_TEST_SUITE_P(LayerNorm, PackageLayer,
                         testing::Values(Case{"layer-norm", "LayerNorm", layer_norm,
                                              /*reads_weight=*/true, /*reads_bias=*/true},
                                         Case{"layer-norm", "LlamaRMSNorm", rms_norm,
                                              /*reads_weight=*/true}));

}  // namespace
}  // namespace kernelhub
