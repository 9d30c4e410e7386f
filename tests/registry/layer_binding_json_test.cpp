// SPDX-License-Identifier: Apache-2.0
#include "expect_error.h"

#include "kernelhub/layers/layer_binding.h"

#include <gtest/gtest.h>

namespace kernelhub {
namespace {

TEST(LayerBinding, ReadsEveryTermOfACall) {
  const auto bindings = parse_layer_bindings(R"({"Norm": {
      "forward": "(Tensor x, Tensor? gate=None) -> Tensor", "can_torch_compile": true,
      "when": {"dtypes": ["float32", "bfloat16"], "contiguous": true, "last_dim_multiple": 8,
               "max_dims": 4},
      "call": {"op": "norm.out", "result": "out", "reshape_like": "x", "args": [
          {"out": {"like": "x", "last_dim": "/2", "dtype": "float32"}},
          {"in": "x", "contiguous": true, "view": "2d", "unsqueeze": -1},
          {"param": "weight"}, {"param": "bias", "optional": true}, {"buffer": "scale"},
          {"attr": "eps", "default": 1e-5}, {"const": 3}, {"const": true}, {"null": true},
          {"dim": ["x", -1]}]}}})",
                                             "org/name@v1");
  const LayerBinding& norm = bindings.at("Norm");
  EXPECT_EQ(norm.layer, "Norm");
  EXPECT_EQ(norm.forward, "(Tensor x, Tensor? gate=None) -> Tensor");
  EXPECT_TRUE(norm.can_torch_compile);
  EXPECT_EQ(norm.call.op, "norm.out");
  EXPECT_EQ(norm.when.dtypes, (std::vector<std::string>{"float32", "bfloat16"}));
  EXPECT_TRUE(norm.when.contiguous);
  EXPECT_EQ(norm.when.last_dim_multiple, 8);
  EXPECT_EQ(norm.when.max_dims, 4);
  EXPECT_EQ(norm.call.reshape_like, "x");
  ASSERT_EQ(norm.call.results.size(), 1u);
  EXPECT_TRUE(norm.call.results[0].is_out);
  EXPECT_FALSE(norm.backward);
  ASSERT_EQ(norm.call.args.size(), 10u);
  const auto& out = std::get<OutputArgument>(norm.call.args[0]);
  EXPECT_EQ(out.like, "x");
  EXPECT_EQ(out.last_dim_divisor, 2);
  EXPECT_EQ(out.dtype, "float32");
  const auto& in = std::get<ForwardArgument>(norm.call.args[1]);
  EXPECT_TRUE(in.layout.contiguous && in.layout.as_2d);
  EXPECT_EQ(in.layout.unsqueeze, -1);
  EXPECT_FALSE(std::get<ModuleTensor>(norm.call.args[2]).optional);
  EXPECT_TRUE(std::get<ModuleTensor>(norm.call.args[3]).optional);
  EXPECT_EQ(std::get<ModuleTensor>(norm.call.args[4]).kind, ModuleTensor::Kind::kBuffer);
  EXPECT_EQ(std::get<double>(*std::get<ModuleScalar>(norm.call.args[5]).fallback), 1e-5);
  EXPECT_EQ(std::get<std::int64_t>(std::get<ConstantArgument>(norm.call.args[6]).value), 3);
  EXPECT_EQ(std::get<bool>(std::get<ConstantArgument>(norm.call.args[7]).value), true);
  EXPECT_EQ(std::get<ConstantArgument>(norm.call.args[8]).value.index(), 0u);
  EXPECT_EQ(std::get<DimArgument>(norm.call.args[9]).dim, -1);
}

TEST(LayerBinding, ReadsAResultIndex) {
  const auto bindings = parse_layer_bindings(
      R"({"A": {"forward": "(Tensor x) -> Tensor",
                "call": {"op": "a", "args": [{"in": "x"}], "result": 0}}})",
      "p");
  EXPECT_FALSE(bindings.at("A").call.results.at(0).is_out);
  EXPECT_EQ(bindings.at("A").call.results.at(0).index, 0);
  EXPECT_FALSE(bindings.at("A").can_torch_compile);
}

TEST(LayerBinding, ReadsTheResultsOfATuple) {
  const auto bindings = parse_layer_bindings(
      R"json({"A": {"forward": "(Tensor x) -> (Tensor, Tensor, Tensor)",
                "call": {"op": "a", "args": [{"out": {"like": "x"}}, {"out": {"like": "x"}}],
                         "result": ["out.1", "out.0", 3]}}})json",
      "p");
  const auto& results = bindings.at("A").call.results;
  ASSERT_EQ(results.size(), 3u);
  EXPECT_TRUE(results[0].is_out && results[1].is_out && !results[2].is_out);
  EXPECT_EQ(results[0].index, 1);
  EXPECT_EQ(results[1].index, 0);
  EXPECT_EQ(results[2].index, 3);
}

TEST(LayerBinding, ReadsEveryTermOfABackward) {
  const auto bindings = parse_layer_bindings(
      R"({"A": {"forward": "(Tensor x) -> Tensor",
          "call": {"op": "a", "args": [{"in": "x"}], "result": 0},
          "backward": {
            "call": {"op": "b", "args": [{"out": {"like": "x"}}, {"param": "weight"}],
                     "result": "out"},
            "op": "a_backward",
            "args": [{"out": {"like": "x"}}, {"out": {"like": "weight"}},
                     {"grad": 0, "contiguous": true}, {"saved": "out", "view": "2d"},
                     {"saved": 1, "unsqueeze": 0}, {"needs": "weight"}, {"in": "x"}],
            "grads": {"x": "out.0", "weight": "out.1"}}}})",
      "p");
  ASSERT_TRUE(bindings.at("A").backward);
  const BackwardBinding& backward = *bindings.at("A").backward;
  EXPECT_EQ(backward.op, "a_backward");
  ASSERT_TRUE(backward.call);
  EXPECT_EQ(backward.call->op, "b");
  ASSERT_EQ(backward.args.size(), 7u);
  EXPECT_EQ(std::get<OutputArgument>(backward.args[1]).like, "weight");
  EXPECT_EQ(std::get<GradArgument>(backward.args[2]).index, 0);
  EXPECT_TRUE(std::get<GradArgument>(backward.args[2]).layout.contiguous);
  EXPECT_TRUE(std::get<SavedArgument>(backward.args[3]).result.is_out);
  EXPECT_TRUE(std::get<SavedArgument>(backward.args[3]).layout.as_2d);
  EXPECT_EQ(std::get<SavedArgument>(backward.args[4]).result.index, 1);
  EXPECT_EQ(std::get<SavedArgument>(backward.args[4]).layout.unsqueeze, 0);
  EXPECT_EQ(std::get<NeedsArgument>(backward.args[5]).name, "weight");
  EXPECT_EQ(std::get<ForwardArgument>(backward.args[6]).name, "x");
  ASSERT_EQ(backward.grads.size(), 2u);
  for (const auto& [name, result] : backward.grads) {
    EXPECT_TRUE(result.is_out);
    EXPECT_EQ(result.index, name == "weight" ? 1 : 0);
  }
}

TEST(LayerBinding, NoTextIsNoLayers) { EXPECT_TRUE(parse_layer_bindings("", "p").empty()); }

struct BadBinding {
  const char* title;
  const char* call;   // the object "call"
  const char* named;  // in the text of the error
};
void PrintTo(const BadBinding& bad, std::ostream* stream) { *stream << bad.title; }
class LayerBindingErrors : public testing::TestWithParam<BadBinding> {};

TEST_P(LayerBindingErrors, NameTheField) {
  const std::string json =
      std::string(R"({"A": {"forward": "(Tensor x) -> Tensor", "call": )") + GetParam().call + "}}";
  const Error error = error_of([&] { parse_layer_bindings(json, "org/name@v1"); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidBinding) << error.what();
  EXPECT_NE(std::string(error.what()).find(GetParam().named), std::string::npos) << error.what();
  EXPECT_NE(std::string(error.what()).find("org/name@v1"), std::string::npos) << error.what();
}

INSTANTIATE_TEST_SUITE_P(
    Calls, LayerBindingErrors,
    testing::Values(
        BadBinding{"no op", R"({"args": [], "result": 0})", "A.call.op"},
        BadBinding{"unknown key", R"({"op": "a", "args": [], "result": 0, "loop": 1})", "loop"},
        BadBinding{"no result", R"({"op": "a", "args": []})", "result"},
        BadBinding{"out without an out argument", R"({"op": "a", "args": [], "result": "out"})",
                   "result"},
        BadBinding{"unknown term", R"({"op": "a", "args": [{"arg": "x"}], "result": 0})",
                   "args[0]"},
        BadBinding{"two terms in one",
                   R"({"op": "a", "args": [{"in": "x", "param": "w"}], "result": 0})", "args[0]"},
        BadBinding{"unknown modifier",
                   R"({"op": "a", "args": [{"in": "x", "flat": true}], "result": 0})", "flat"},
        BadBinding{"default of a parameter",
                   R"({"op": "a", "args": [{"param": "w", "default": 1}], "result": 0})",
                   "default"},
        BadBinding{"optional is no flag",
                   R"({"op": "a", "args": [{"param": "w", "optional": 1}], "result": 0})",
                   "optional"},
        BadBinding{"constant is a list", R"({"op": "a", "args": [{"const": [1]}], "result": 0})",
                   "const"},
        BadBinding{"dim is not a pair", R"({"op": "a", "args": [{"dim": "x"}], "result": 0})",
                   "dim"},
        BadBinding{
            "last_dim divides by zero",
            R"({"op": "a", "args": [{"out": {"like": "x", "last_dim": "/0"}}], "result": "out"})",
            "last_dim"},
        BadBinding{"a result that is no out argument",
                   R"({"op": "a", "args": [{"out": {"like": "x"}}], "result": "out.1"})", "result"},
        BadBinding{"one of two out arguments is not named",
                   R"({"op": "a", "args": [{"out": {"like": "x"}}, {"out": {"like": "x"}}],
                       "result": "out"})",
                   "result"},
        BadBinding{"an out that is no number",
                   R"({"op": "a", "args": [{"out": {"like": "x"}}], "result": "out.-1"})",
                   "result"},
        BadBinding{"a list of one result", R"({"op": "a", "args": [], "result": [0]})", "result"},
        BadBinding{"several results are not reshaped",
                   R"({"op": "a", "args": [], "result": [0, 1], "reshape_like": "x"})",
                   "reshape_like"},
        BadBinding{"a gradient in a forward", R"({"op": "a", "args": [{"grad": 0}], "result": 0})",
                   "args[0]"}));

class BackwardErrors : public testing::TestWithParam<BadBinding> {};

TEST_P(BackwardErrors, NameTheField) {
  const std::string json = std::string(R"({"A": {"forward": "(Tensor x) -> Tensor",
                            "call": {"op": "a", "args": [{"in": "x"}], "result": 0},
                            "backward": )") +
                           GetParam().call + "}}";
  const Error error = error_of([&] { parse_layer_bindings(json, "org/name@v1"); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidBinding) << error.what();
  EXPECT_NE(std::string(error.what()).find(GetParam().named), std::string::npos) << error.what();
}

INSTANTIATE_TEST_SUITE_P(
    Backwards, BackwardErrors,
    testing::Values(
        BadBinding{"no op", R"({"args": [], "grads": {"x": 0}})", "A.backward.op"},
        BadBinding{"no grads", R"({"op": "b", "args": []})", "A.backward.grads"},
        BadBinding{"empty grads", R"({"op": "b", "args": [], "grads": {}})", "grads"},
        BadBinding{"unknown key", R"({"op": "b", "args": [], "grads": {"x": 0}, "save": 1})",
                   "save"},
        BadBinding{"unknown term", R"({"op": "b", "args": [{"gradient": 0}], "grads": {"x": 0}})",
                   "A.backward.args[0]"},
        BadBinding{"negative gradient", R"({"op": "b", "args": [{"grad": -1}], "grads": {"x": 0}})",
                   "grad"},
        BadBinding{"saves an out that the forward does not have",
                   R"({"op": "b", "args": [{"saved": "out"}], "grads": {"x": 0}})",
                   "A.backward.args[0].saved"},
        BadBinding{"unknown modifier",
                   R"({"op": "b", "args": [{"grad": 0, "flat": true}], "grads": {"x": 0}})",
                   "flat"},
        BadBinding{"a grad that is no result", R"({"op": "b", "args": [], "grads": {"x": "out"}})",
                   "A.backward.grads.x"},
        BadBinding{"a call without a result",
                   R"({"call": {"op": "c", "args": []}, "op": "b", "args": [], "grads": {"x": 0}})",
                   "A.backward.call.result"}));

TEST(LayerBinding, UnknownKeysOfALayerAreErrors) {
  EXPECT_EQ(code_of([] {
              parse_layer_bindings(R"({"A": {"forward": "() -> Tensor", "calls": {}}})", "p");
            }),
            ErrorCode::kInvalidBinding);
}

}  // namespace
}  // namespace kernelhub
