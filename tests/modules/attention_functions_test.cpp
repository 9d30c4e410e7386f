// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/layers/attention_functions.h"

#include "kernelhub/core/error.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <limits>

namespace kernelhub {
namespace {

constexpr const char* kPackage = "test-org/attention-ops";
constexpr const char* kCapless = "test-org/attention-ops-capless";

/// What every call below needs and no attention of these tests looks at.
torch::nn::Linear some_module() {
  torch::nn::Linear module(2, 2);
  module->eval();
  return module;
}

struct Problem {
  at::Tensor query = at::randn({2, 4, 5, 8});
  at::Tensor key = at::randn({2, 2, 9, 8});
  at::Tensor value = at::randn({2, 2, 9, 8});
  std::optional<at::Tensor> mask;
  AttentionArguments arguments{.scale = 0.3};
};

Attention run(const AttentionFunction& attend, const Problem& problem) {
  return attend(*some_module(), problem.query, problem.key, problem.value, problem.mask,
                problem.arguments);
}

LoadOptions fixture_options() {
  LoadOptions options;
  options.backend = "cpu";
  options.config = Config::from_env();
  options.config->local_kernels[kPackage] =
      std::string(KERNELHUB_LAYER_PACKAGES) + "/attention_ops";
  options.config->local_kernels[kCapless] =
      std::string(KERNELHUB_LAYER_PACKAGES) + "/attention_ops_capless";
  return options;
}

AttentionFunction packaged() { return attention_function(kPackage, fixture_options()); }

void expect_close(const at::Tensor& found, const at::Tensor& expected) {
  ASSERT_EQ(found.sizes(), expected.sizes());
  EXPECT_TRUE(at::allclose(found.to(at::kDouble), expected.to(at::kDouble), 1e-5, 1e-6))
      << (found - expected).abs().max();
}

ErrorCode code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

at::Tensor formula(const Problem& problem) {
  const at::Tensor query = problem.query.to(at::kDouble);
  const at::Tensor key = problem.key.to(at::kDouble).repeat_interleave(2, 1);
  const at::Tensor value = problem.value.to(at::kDouble).repeat_interleave(2, 1);
  const at::Tensor logits = at::matmul(query, key.transpose(2, 3)) * problem.arguments.scale;
  return at::matmul(at::softmax(logits, -1), value).transpose(1, 2);
}

TEST(AttentionFunctions, AgreeWithTheFormulaInGroupsOfHeads) {
  const Problem problem;
  for (const AttentionFunction& attend :
       {attention_function("eager"), attention_function("sdpa"), packaged()}) {
    expect_close(run(attend, problem).out, formula(problem));
  }
}

TEST(AttentionFunctions, EagerReturnsWeightsThatSumToOne) {
  Problem problem;
  problem.arguments.wants_weights = true;
  const Attention attention = run(attention_function("eager"), problem);
  ASSERT_TRUE(attention.weights.has_value());
  expect_close(attention.weights->sum(-1), at::ones({2, 4, 5}));
  EXPECT_FALSE(run(attention_function("sdpa"), problem).weights.has_value());
}

TEST(AttentionFunctions, CausalityIsAlignedToTheLastKey) {
  Problem problem;
  problem.arguments.is_causal = true;
  const at::Tensor eager = run(attention_function("eager"), problem).out;
  // The last query sees all keys, the first all but the last four.
  expect_close(eager.select(1, 4), formula(problem).select(1, 4));
  Problem first = problem;
  first.query = problem.query.slice(2, 0, 1);
  first.key = problem.key.slice(2, 0, 5);
  first.value = problem.value.slice(2, 0, 5);
  expect_close(eager.slice(1, 0, 1), formula(first));
  expect_close(run(attention_function("sdpa"), problem).out, eager);
  expect_close(run(packaged(), problem).out, eager);
}

TEST(AttentionFunctions, WindowsCountTheOwnPosition) {
  for (const bool is_causal : {false, true}) {
    Problem problem;
    problem.arguments.is_causal = is_causal;
    problem.arguments.sliding_window = 1;
    const at::Tensor own = problem.value.slice(2, 4).repeat_interleave(2, 1).transpose(1, 2);
    for (const AttentionFunction& attend :
         {attention_function("eager"), attention_function("sdpa"), packaged()}) {
      expect_close(run(attend, problem).out, own);
    }
    problem.arguments.sliding_window = 3;
    const at::Tensor eager = run(attention_function("eager"), problem).out;
    expect_close(run(attention_function("sdpa"), problem).out, eager);
    expect_close(run(packaged(), problem).out, eager);
  }
}

TEST(AttentionFunctions, OneQueryWithAMaskIsFoldedIntoItsGroup) {
  Problem problem;
  problem.query = at::randn({2, 4, 1, 8});
  problem.mask = at::ones({2, 1, 1, 9}, at::kBool);
  problem.mask->select(0, 1).slice(-1, 0, 6).fill_(false);
  const at::Tensor eager = run(attention_function("eager"), problem).out;
  Problem seen = problem;
  seen.mask.reset();
  seen.query = problem.query.slice(0, 1);
  seen.key = problem.key.slice(0, 1).slice(2, 6);
  seen.value = problem.value.slice(0, 1).slice(2, 6);
  expect_close(eager.slice(0, 1), formula(seen));
  expect_close(run(attention_function("sdpa"), problem).out, eager);
}

TEST(AttentionFunctions, PackagesNeverSeePadding) {
  for (const std::int64_t first : {4, 0}) {  // padded on the left, on the right
    Problem problem;
    problem.query = at::randn({2, 4, 9, 8});
    problem.arguments.is_causal = true;
    problem.mask = at::zeros({2, 9}, at::kBool);
    problem.mask->select(0, 0).fill_(true);
    problem.mask->select(0, 1).slice(0, first, first + 5).fill_(true);
    const std::int64_t padding = first == 0 ? 5 : 0;
    const float nan = std::numeric_limits<float>::quiet_NaN();
    problem.value.select(0, 1).slice(1, padding, padding + 4).fill_(nan);
    const at::Tensor out = run(packaged(), problem).out;
    Problem short_one;
    short_one.query = problem.query.slice(0, 1).slice(2, first, first + 5);
    short_one.key = problem.key.slice(0, 1).slice(2, first, first + 5);
    short_one.value = problem.value.slice(0, 1).slice(2, first, first + 5);
    short_one.arguments = problem.arguments;
    expect_close(out.slice(0, 1).slice(1, first, first + 5),
                 run(attention_function("eager"), short_one).out);
    expect_close(out.slice(0, 1).slice(1, padding, padding + 4), at::zeros({1, 4, 4, 8}));
  }
}

TEST(AttentionFunctions, PaddingAndCausalityHideTogetherInAll) {
  for (const std::optional<std::int64_t> window : {std::optional<std::int64_t>(), {3}}) {
    Problem problem;
    problem.query = at::randn({2, 4, 9, 8});
    problem.arguments.is_causal = true;
    problem.arguments.sliding_window = window;
    at::Tensor padding = at::ones({2, 9}, at::kBool);
    padding.select(0, 1).slice(0, 0, 4).fill_(false);
    // The same by hand, for each query: its keys up to itself that are no padding.
    const at::Tensor distance = at::arange(9) - at::arange(9).unsqueeze(-1);
    at::Tensor seen = (distance <= 0) & padding.view({2, 1, 1, 9});
    if (window) seen = seen & (distance > -*window);
    Problem by_hand = problem;
    by_hand.arguments.is_causal = false;
    by_hand.arguments.sliding_window.reset();
    by_hand.mask = seen;
    const at::Tensor expected = run(attention_function("eager"), by_hand).out;
    const at::Tensor addend =
        at::zeros({2, 1, 1, 9}).masked_fill(padding.logical_not().view({2, 1, 1, 9}), -1e9);
    for (const at::Tensor& mask : {padding, padding.view({2, 1, 1, 9}), addend}) {
      problem.mask = mask;
      for (const AttentionFunction& attend :
           {attention_function("eager"), attention_function("sdpa"), packaged()}) {
        const at::Tensor out = run(attend, problem).out;
        expect_close(out.slice(0, 0, 1), expected.slice(0, 0, 1));
        expect_close(out.slice(1, 4), expected.slice(1, 4));  // the others are padding
      }
    }
  }
}

TEST(AttentionFunctions, AMaskOfEveryQuerySaysItAll) {
  Problem problem;
  problem.mask = at::ones({1, 1, 5, 9}, at::kBool);
  problem.arguments.is_causal = true;
  problem.arguments.sliding_window = 1;
  expect_close(run(attention_function("eager"), problem).out, formula(problem));
  expect_close(run(attention_function("sdpa"), problem).out, formula(problem));
}

TEST(AttentionFunctions, ATwoDimMaskIsAlwaysOfBatchAndKeys) {
  Problem problem;
  problem.query = at::randn({2, 4, 2, 8});  // as many queries as sequences
  problem.key = at::randn({2, 2, 2, 8});
  problem.value = at::randn({2, 2, 2, 8});
  problem.mask = at::ones({2, 2}, at::kBool).tril();
  const at::Tensor first = problem.value.slice(0, 0, 1).slice(2, 0, 1).repeat_interleave(2, 1);
  for (const AttentionFunction& attend :
       {attention_function("eager"), attention_function("sdpa"), packaged()}) {
    expect_close(run(attend, problem).out.slice(0, 0, 1),
                 first.transpose(1, 2).expand({1, 2, 4, 8}));
  }
}

TEST(AttentionFunctions, OtherMasksAreRefusedByAll) {
  for (const at::Tensor& mask :
       {at::ones({2, 9}, at::kLong), at::ones({9}, at::kBool), at::ones({5, 9}, at::kBool),
        at::ones({2, 3, 5, 9}, at::kBool), at::ones({2, 1, 5, 8}, at::kBool)}) {
    Problem problem;
    problem.mask = mask;
    for (const AttentionFunction& attend :
         {attention_function("eager"), attention_function("sdpa"), packaged()}) {
      EXPECT_EQ(code_of([&] { run(attend, problem); }), ErrorCode::kInvalidArgument);
    }
  }
  Problem biased;
  biased.mask = at::full({2, 9}, -0.5);
  EXPECT_EQ(code_of([&] { run(packaged(), biased); }), ErrorCode::kInvalidArgument);
}

TEST(AttentionFunctions, KeysOfAnotherSequenceAreHiddenFromAllQueries) {
  Problem problem;
  problem.mask = at::ones({2, 9}, at::kBool);
  problem.mask->select(0, 1).slice(0, 6).fill_(false);
  Problem shorter = problem;
  shorter.mask.reset();
  shorter.key = problem.key.slice(2, 0, 6);
  shorter.value = problem.value.slice(2, 0, 6);
  const at::Tensor expected = formula(shorter).slice(0, 1);
  for (const AttentionFunction& attend :
       {attention_function("eager"), attention_function("sdpa"), packaged()}) {
    expect_close(run(attend, problem).out.slice(0, 1), expected);
  }
}

TEST(AttentionFunctions, AWindowCountsHiddenKeysOrIsRefused) {
  Problem problem;
  problem.arguments.is_causal = true;
  problem.arguments.sliding_window = 3;
  problem.mask = at::ones({2, 9}, at::kBool);
  problem.mask->select(0, 0).slice(0, 0, 2).fill_(false);
  problem.mask->select(0, 1).slice(0, 7).fill_(false);
  const at::Tensor eager = run(attention_function("eager"), problem).out;
  const at::Tensor found = run(packaged(), problem).out;
  expect_close(found.select(0, 0), eager.select(0, 0));
  expect_close(found.select(0, 1).slice(0, 0, 3), eager.select(0, 1).slice(0, 0, 3));
  expect_close(found.select(0, 1).slice(0, 3), at::zeros({2, 4, 8}));  // padding itself
  Problem gap = problem;
  gap.mask->select(0, 0).slice(0, 4, 5).fill_(false);
  EXPECT_EQ(code_of([&] { run(packaged(), gap); }), ErrorCode::kInvalidArgument);
  Problem decoding = problem;
  decoding.query = problem.query.slice(2, 0, 1);
  EXPECT_EQ(code_of([&] { run(packaged(), decoding); }), ErrorCode::kInvalidArgument);
  decoding.mask = at::ones({2, 9}, at::kBool);
  decoding.mask->slice(1, 0, 7).fill_(false);
  expect_close(run(packaged(), decoding).out, run(attention_function("eager"), decoding).out);
}

TEST(AttentionFunctions, AnOpOfFlatRowsServesWholeBatchesToo) {
  const AttentionFunction flat =
      attention_function(std::string(kPackage) + ":varlen_fwd", fixture_options());
  Problem problem;
  expect_close(run(flat, problem).out, formula(problem));
  problem.mask = at::ones({2, 9}, at::kBool);
  expect_close(run(flat, problem).out, formula(problem));
}

TEST(AttentionFunctions, WhatThePackagesOpLacksIsRefused) {
  const AttentionFunction bare =
      attention_function(std::string(kPackage) + ":bare", fixture_options());
  Problem problem;
  expect_close(run(bare, problem).out, formula(problem));
  problem.arguments.is_causal = true;
  EXPECT_EQ(code_of([&] { run(bare, problem); }), ErrorCode::kInvalidArgument);
  problem.query = problem.query.slice(2, 0, 1);
  expect_close(run(bare, problem).out, formula(problem));  // the last query sees every key
  problem = Problem();
  problem.arguments.sliding_window = 3;
  EXPECT_EQ(code_of([&] { run(bare, problem); }), ErrorCode::kInvalidArgument);
  problem = Problem();
  problem.mask = at::ones({2, 9}, at::kBool);
  expect_close(run(bare, problem).out, formula(problem));  // it hides nothing
  problem.mask->select(0, 0).slice(0, 0, 2).fill_(false);
  EXPECT_EQ(code_of([&] { run(bare, problem); }), ErrorCode::kInvalidArgument);
}

TEST(AttentionFunctions, TheOpThatTakesOutPaddingIsAskedToo) {
  const AttentionFunction attend = attention_function(kCapless, fixture_options());
  Problem problem;
  problem.arguments.softcap = 2.0;
  expect_close(run(attend, problem).out, run(attention_function("eager"), problem).out);
  problem.mask = at::ones({2, 9}, at::kBool);
  problem.mask->select(0, 0).slice(0, 0, 2).fill_(false);
  EXPECT_EQ(code_of([&] { run(attend, problem); }), ErrorCode::kInvalidArgument);
}

TEST(AttentionFunctions, SoftcapBoundsTheLogits) {
  Problem problem;
  problem.arguments.scale = 50.0;
  problem.arguments.softcap = 2.0;
  expect_close(run(packaged(), problem).out, run(attention_function("eager"), problem).out);
  EXPECT_EQ(code_of([&] { run(attention_function("sdpa"), problem); }),
            ErrorCode::kInvalidArgument);
}

TEST(AttentionFunctions, SinksJoinTheDenominatorOnly) {
  Problem problem;
  problem.arguments.sinks = at::full({4}, -std::numeric_limits<double>::infinity());
  expect_close(run(attention_function("eager"), problem).out, formula(problem));
  problem.arguments.sinks = at::full({4}, 1e4);
  expect_close(run(attention_function("eager"), problem).out, at::zeros({2, 5, 4, 8}));
  EXPECT_EQ(code_of([&] { run(packaged(), problem); }), ErrorCode::kInvalidArgument);
}

TEST(AttentionFunctions, AQueryThatSeesNoKeyGivesZeros) {
  Problem problem;
  problem.mask = at::zeros({2, 1, 5, 9}, at::kBool);
  expect_close(run(attention_function("eager"), problem).out, at::zeros({2, 5, 4, 8}));
}

TEST(AttentionFunctions, EagerDifferentiatesAndPackagesRefuseTo) {
  Problem problem;
  problem.query.requires_grad_();
  run(attention_function("eager"), problem).out.sum().backward();
  EXPECT_TRUE(problem.query.grad().defined());
  EXPECT_EQ(code_of([&] { run(packaged(), problem); }), ErrorCode::kInvalidArgument);
}

TEST(AttentionFunctions, UnknownNamesListTheKnownOnes) {
  for (const char* name : {"flash", "", "a/b/c", "a/b@", "a/b:", "/b", "a/", "a/b@x/y"}) {
    try {
      attention_function(name);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << name;
      EXPECT_NE(std::string(error.what()).find("flash_attention_2"), std::string::npos);
    }
  }
}

TEST(AttentionFunctions, AnOpOfAnotherShapeIsRefusedWhenItIsChosen) {
  const std::string name = std::string(kPackage) + ":lonely";
  EXPECT_EQ(code_of([&] { attention_function(name, fixture_options()); }),
            ErrorCode::kSchemaMismatch);
  EXPECT_EQ(
      code_of([&] { attention_function(std::string(kPackage) + ":absent", fixture_options()); }),
      ErrorCode::kOpNotFound);
}

TEST(AttentionFunctions, RegisteredOnesAreFoundByName) {
  register_attention_function(
      "first_value",
      [](const torch::nn::Module&, const at::Tensor&, const at::Tensor&, const at::Tensor& value,
         const std::optional<at::Tensor>&, const AttentionArguments&) {
        return Attention{value, {}};
      });
  const Problem problem;
  EXPECT_TRUE(run(attention_function("first_value"), problem).out.is_same(problem.value));
  EXPECT_EQ(code_of([] { register_attention_function("a/b", attention_function("eager")); }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { register_attention_function("none", {}); }), ErrorCode::kInvalidArgument);
}

TEST(AttentionFunctions, WrongShapesAreNamed) {
  Problem problem;
  problem.key = at::randn({2, 3, 9, 8});
  problem.value = at::randn({2, 3, 9, 8});
  EXPECT_EQ(code_of([&] { run(attention_function("eager"), problem); }),
            ErrorCode::kInvalidArgument);
  problem = Problem();
  problem.key = at::randn({2, 2, 9, 4});
  EXPECT_EQ(code_of([&] { run(attention_function("sdpa"), problem); }),
            ErrorCode::kInvalidArgument);
  problem = Problem();
  problem.mask = at::ones({2, 1, 5, 9}, at::kBool);
  EXPECT_EQ(code_of([&] { run(packaged(), problem); }), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace kernelhub
