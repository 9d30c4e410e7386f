// SPDX-License-Identifier: Apache-2.0
// The attention packages as a C++ model meets them: chosen by name, without Python in the process.
#include "kernelhub/layers/attention_functions.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include <cstdlib>

namespace kernelhub {
namespace {

LoadOptions built_packages() {
  LoadOptions options;
  options.backend = "cpu";
  options.config = Config::from_env();
  const char* root = std::getenv("KERNELHUB_PACKAGES_DIR");
  for (const char* name : {"flash-attn2", "flash-attn3", "vllm-flash-attn3"}) {
    options.config->local_kernels["kernels-community/" + std::string(name)] =
        std::string(root == nullptr ? "." : root) + "/" + name;
  }
  return options;
}

struct Case {
  const char* name;
  at::ScalarType dtype;
  double bound;  // relative error in the 2-norm against fp64
};

class AttentionPackages : public testing::TestWithParam<Case> {
 protected:
  /// Relative error of the package's result against eager attention in fp64 on the same values.
  double error(std::int64_t queries, std::int64_t keys, const std::optional<at::Tensor>& mask,
               AttentionArguments arguments) {
    torch::nn::Linear module(2, 2);
    module->eval();
    arguments.scale = 0.125;
    const at::Tensor query = at::randn({2, 8, queries, 64}).to(GetParam().dtype);
    const at::Tensor key = at::randn({2, 2, keys, 64}).to(GetParam().dtype);
    const at::Tensor value = at::randn({2, 2, keys, 64}).to(GetParam().dtype);
    const AttentionFunction attend = attention_function(GetParam().name, built_packages());
    const at::Tensor found =
        attend(*module, query, key, value, mask, arguments).out.to(at::kDouble);
    std::optional<at::Tensor> seen;
    if (mask) {
      // Padding beside causality, as one mask.
      seen = mask->view({2, 1, 1, keys});
      if (arguments.is_causal)
        seen = *seen & at::ones({queries, keys}, at::kBool).tril(keys - queries);
    }
    const at::Tensor expected =
        attention_function("eager")(*module, query.to(at::kDouble), key.to(at::kDouble),
                                    value.to(at::kDouble), seen, arguments)
            .out;
    if (!mask) return ((found - expected).norm() / expected.norm()).item<double>();
    // Rows that are padding themselves are zeros in one and anything in the other.
    const at::Tensor is_row = mask->view({2, keys, 1, 1}).slice(1, keys - queries).to(at::kDouble);
    return (((found - expected) * is_row).norm() / (expected * is_row).norm()).item<double>();
  }
};

TEST_P(AttentionPackages, AgreeWithEagerAttention) {
  AttentionArguments causal;
  causal.is_causal = true;
  AttentionArguments windowed = causal;
  windowed.sliding_window = 17;
  AttentionArguments capped;
  capped.softcap = 20.0;
  for (const AttentionArguments& arguments : {AttentionArguments(), causal, windowed, capped}) {
    EXPECT_LE(error(67, 67, {}, arguments), GetParam().bound);
    EXPECT_LE(error(1, 200, {}, arguments), GetParam().bound);
    EXPECT_LE(error(5, 40, {}, arguments), GetParam().bound);
  }
}

TEST_P(AttentionPackages, TakeOutPadding) {
  at::Tensor mask = at::ones({2, 33}, at::kBool);
  mask.select(0, 1).slice(0, 0, 9).fill_(false);
  AttentionArguments causal;
  causal.is_causal = true;
  EXPECT_LE(error(33, 33, mask, causal), GetParam().bound);
  EXPECT_LE(error(1, 33, mask, causal), GetParam().bound);
}

INSTANTIATE_TEST_SUITE_P(ByName, AttentionPackages,
                         testing::Values(Case{"flash_attention_2", at::kFloat, 2e-6},
                                         Case{"flash_attention_2", at::kBFloat16, 3e-3},
                                         Case{"flash_attention_3", at::kHalf, 4e-4},
                                         Case{"kernels-community/flash-attn3:attention_forward",
                                              at::kFloat, 2e-6}),
                         [](const auto& info) { return "Case" + std::to_string(info.index); });

TEST(AttentionPackagesSinks, JoinTheDenominator) {
  torch::nn::Linear module(2, 2);
  module->eval();
  AttentionArguments arguments{.scale = 0.125};
  arguments.sinks = at::randn({8});
  const at::Tensor query = at::randn({1, 8, 21, 64});
  const at::Tensor key = at::randn({1, 8, 30, 64});
  const AttentionFunction attend = attention_function("flash_attention_3", built_packages());
  const at::Tensor found = attend(*module, query, key, key, {}, arguments).out;
  const at::Tensor expected =
      attention_function("eager")(*module, query, key, key, {}, arguments).out;
  EXPECT_LE(((found - expected).norm() / expected.norm()).item<double>(), 2e-6);
}

}  // namespace
}  // namespace kernelhub
