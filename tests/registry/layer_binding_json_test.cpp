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
          {"param": "weight"}, {"param": "bias", "default": null}, {"buffer": "scale"},
          {"attr": "eps", "default": 1e-5}, {"const": 3}, {"const": true}, {"null": true},
          {"dim": ["x", -1]}]}}})",
                                             "org/name@v1");
  const LayerBinding& norm = bindings.at("Norm");
  EXPECT_EQ(norm.layer, "Norm");
  EXPECT_EQ(norm.forward, "(Tensor x, Tensor? gate=None) -> Tensor");
  EXPECT_TRUE(norm.can_torch_compile);
  EXPECT_EQ(norm.op, "norm.out");
  EXPECT_EQ(norm.when.dtypes, (std::vector<std::string>{"float32", "bfloat16"}));
  EXPECT_TRUE(norm.when.contiguous);
  EXPECT_EQ(norm.when.last_dim_multiple, 8);
  EXPECT_EQ(norm.when.max_dims, 4);
  EXPECT_EQ(norm.reshape_like, "x");
  EXPECT_EQ(norm.result_index, std::nullopt);
  ASSERT_EQ(norm.args.size(), 10u);
  const auto& out = std::get<OutputArgument>(norm.args[0]);
  EXPECT_EQ(out.like, "x");
  EXPECT_EQ(out.last_dim_divisor, 2);
  EXPECT_EQ(out.dtype, "float32");
  const auto& in = std::get<ForwardArgument>(norm.args[1]);
  EXPECT_TRUE(in.contiguous && in.as_2d);
  EXPECT_EQ(in.unsqueeze, -1);
  EXPECT_FALSE(std::get<ModuleTensor>(norm.args[2]).optional);
  EXPECT_TRUE(std::get<ModuleTensor>(norm.args[3]).optional);
  EXPECT_EQ(std::get<ModuleTensor>(norm.args[4]).kind, ModuleTensor::Kind::kBuffer);
  EXPECT_EQ(std::get<double>(*std::get<ModuleScalar>(norm.args[5]).fallback), 1e-5);
  EXPECT_EQ(std::get<std::int64_t>(std::get<ConstantArgument>(norm.args[6]).value), 3);
  EXPECT_EQ(std::get<bool>(std::get<ConstantArgument>(norm.args[7]).value), true);
  EXPECT_EQ(std::get<ConstantArgument>(norm.args[8]).value.index(), 0u);
  EXPECT_EQ(std::get<DimArgument>(norm.args[9]).dim, -1);
}

TEST(LayerBinding, ReadsAResultIndex) {
  const auto bindings = parse_layer_bindings(
      R"({"A": {"forward": "(Tensor x) -> Tensor",
                "call": {"op": "a", "args": [{"in": "x"}], "result": 0}}})",
      "p");
  EXPECT_EQ(bindings.at("A").result_index, 0);
  EXPECT_FALSE(bindings.at("A").can_torch_compile);
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
        BadBinding{"default of a parameter is not null",
                   R"({"op": "a", "args": [{"param": "w", "default": 1}], "result": 0})",
                   "default"},
        BadBinding{"constant is a list", R"({"op": "a", "args": [{"const": [1]}], "result": 0})",
                   "const"},
        BadBinding{"dim is not a pair", R"({"op": "a", "args": [{"dim": "x"}], "result": 0})",
                   "dim"},
        BadBinding{
            "last_dim divides by zero",
            R"({"op": "a", "args": [{"out": {"like": "x", "last_dim": "/0"}}], "result": "out"})",
            "last_dim"}));

TEST(LayerBinding, UnknownKeysOfALayerAreErrors) {
  EXPECT_EQ(code_of([] {
              parse_layer_bindings(R"({"A": {"forward": "() -> Tensor", "calls": {}}})", "p");
            }),
            ErrorCode::kInvalidBinding);
}

}  // namespace
}  // namespace kernelhub
