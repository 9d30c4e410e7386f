// SPDX-License-Identifier: Apache-2.0
#include "expect_error.h"

#include "kernelhub/layers/kernel_mapping.h"

#include <gtest/gtest.h>

namespace kernelhub {
namespace {

TEST(KernelMappingFromJson, ReadsDeviceRangeModesAndRepository) {
  const KernelMapping mapping = kernel_mapping_from_json(R"({"GeLU": [
      {"device": "cuda", "min_capability": 80, "max_capability": 90,
       "mode": ["INFERENCE", "TORCH_COMPILE"], "repo": "org/name", "layer": "Gelu", "version": 3},
      {"device": "cpu", "repo": "org/other", "layer": "G", "revision": "main"}]})");
  ASSERT_EQ(mapping.size(), 1u);
  const auto& entries = mapping.at("GeLU");
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_TRUE(entries[0].device == Device("cuda", CapabilityRange{80, 90}));
  const auto& by_mode = std::get<std::map<Mode, LayerRepository>>(entries[0].repo);
  const LayerRepository& cuda = by_mode.at(Mode::kInference | Mode::kTorchCompile);
  EXPECT_EQ(cuda.layer(), "Gelu");
  EXPECT_EQ(cuda.package_str(), "org/name@v3");
  const auto& cpu = std::get<std::map<Mode, LayerRepository>>(entries[1].repo);
  EXPECT_EQ(cpu.at(Mode::kFallback).package_str(), "org/other@main");
}

TEST(KernelMappingFromJson, JoinsTheModesOfOneDevice) {
  const KernelMapping mapping = kernel_mapping_from_json(R"({"L": [
      {"device": "cpu", "mode": ["INFERENCE"], "repo": "a/b", "layer": "X", "version": 1},
      {"device": "cpu", "mode": ["TRAINING"], "repo": "a/b", "layer": "X", "version": 2}]})");
  ASSERT_EQ(mapping.at("L").size(), 1u);
  EXPECT_EQ((std::get<std::map<Mode, LayerRepository>>(mapping.at("L")[0].repo).size()), 2u);
}

struct BadMapping {
  const char* title;
  const char* json;
  const char* named;  // in the text of the error
};
void PrintTo(const BadMapping& bad, std::ostream* stream) { *stream << bad.title; }
class KernelMappingErrors : public testing::TestWithParam<BadMapping> {};

TEST_P(KernelMappingErrors, NameTheField) {
  const Error error = error_of([] { kernel_mapping_from_json(GetParam().json, "m.json"); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidMapping);
  EXPECT_NE(std::string(error.what()).find(GetParam().named), std::string::npos) << error.what();
  EXPECT_NE(std::string(error.what()).find("m.json"), std::string::npos) << error.what();
}

INSTANTIATE_TEST_SUITE_P(
    Files, KernelMappingErrors,
    testing::Values(
        BadMapping{"root is a list", R"([])", "object"},
        BadMapping{"layer is no list", R"({"L": {}})", "L"},
        BadMapping{"layer has no entry", R"({"L": []})", "L"},
        BadMapping{"entry is no object", R"({"L": [1]})", "L[0]"},
        BadMapping{"unknown key",
                   R"({"L": [{"device":"cpu","repo":"a/b","layer":"X","version":1,"sm":9}]})",
                   "sm"},
        BadMapping{"no device", R"({"L": [{"repo":"a/b","layer":"X","version":1}]})", "device"},
        BadMapping{"unknown device",
                   R"({"L": [{"device":"metal","repo":"a/b","layer":"X","version":1}]})", "device"},
        BadMapping{
            "capability on a cpu",
            R"({"L": [{"device":"cpu","min_capability":1,"repo":"a/b","layer":"X","version":1}]})",
            "device"},
        BadMapping{
            "both version and revision",
            R"({"L": [{"device":"cpu","repo":"a/b","layer":"X","version":1,"revision":"r"}]})",
            "version"},
        BadMapping{"neither", R"({"L": [{"device":"cpu","repo":"a/b","layer":"X"}]})", "version"},
        BadMapping{"bad repository",
                   R"({"L": [{"device":"cpu","repo":"a//b","layer":"X","version":1}]})", "repo"},
        BadMapping{
            "unknown mode",
            R"({"L": [{"device":"cpu","mode":["FAST"],"repo":"a/b","layer":"X","version":1}]})",
            "mode"},
        BadMapping{
            "modes that exclude each other",
            R"({"L": [{"device":"cpu","mode":["INFERENCE","TRAINING"],"repo":"a/b","layer":"X","version":1}]})",
            "mode"},
        BadMapping{"one mode twice",
                   R"({"L": [{"device":"cpu","repo":"a/b","layer":"X","version":1},
                             {"device":"cpu","repo":"a/b","layer":"X","version":2}]})",
                   "FALLBACK twice"}));

TEST(KernelMappingFromJson, BrokenJsonIsInvalidJson) {
  EXPECT_EQ(code_of([] { kernel_mapping_from_json("{"); }), ErrorCode::kInvalidJson);
  EXPECT_EQ(code_of([] { kernel_mapping_from_json(R"({"L":[],"L":[]})"); }),
            ErrorCode::kInvalidJson);
}

struct DefaultRow {
  const char* name;  // that models mark
  const char* package;
  const char* layer;
};
void PrintTo(const DefaultRow& row, std::ostream* stream) { *stream << row.name; }
class DefaultKernelMapping : public testing::TestWithParam<DefaultRow> {};

TEST_P(DefaultKernelMapping, ServesEveryModeOnCpuAndCuda) {
  const ScopedKernelMapping scope(default_kernel_mapping(), InheritMapping::kNo);
  for (const char* device : {"cpu", "cuda"}) {
    for (const Mode mode : {Mode::kInference, Mode::kTraining}) {
      for (const Mode asked : {mode, mode | Mode::kTorchCompile}) {
        const auto found = find_layer_repository(GetParam().name, device, 90, asked);
        ASSERT_TRUE(std::holds_alternative<LayerChoice>(found)) << device << mode_name(asked);
        const LayerRepository& repository = std::get<LayerChoice>(found).repository;
        EXPECT_EQ(repository.package_str(), GetParam().package);
        EXPECT_EQ(repository.layer(), GetParam().layer);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Rows, DefaultKernelMapping,
    testing::Values(DefaultRow{"GeLU", "kernels-community/activation@v1", "Gelu"},
                    DefaultRow{"GeluTanh", "kernels-community/activation@v1", "GeluTanh"},
                    DefaultRow{"NewGELU", "kernels-community/activation@v1", "NewGELU"},
                    DefaultRow{"FastGELU", "kernels-community/activation@v1", "FastGELU"},
                    DefaultRow{"QuickGELU", "kernels-community/activation@v1", "QuickGELU"},
                    DefaultRow{"SiLU", "kernels-community/activation@v1", "Silu"},
                    DefaultRow{"LayerNorm", "kernels-community/layer-norm@v1", "LayerNorm"},
                    DefaultRow{"RMSNorm", "kernels-community/rmsnorm@v1", "RMSNorm"},
                    DefaultRow{"rotary_pos_emb", "kernels-community/rotary@v2",
                               "apply_rotary_transformers"}));

}  // namespace
}  // namespace kernelhub
