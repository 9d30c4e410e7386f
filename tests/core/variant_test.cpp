// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/variant.h"

#include <gtest/gtest.h>

#include <string>

namespace kernelhub {
namespace {

/// The parsed parts in one line, so that a table row says all that is expected.
std::string parsed(std::string_view name) {
  const auto variant = Variant::parse(name);
  if (!variant) return "invalid";
  EXPECT_EQ(variant->str(), name);
  std::string text;
  if (const auto* torch = std::get_if<TorchFramework>(&variant->framework())) {
    text = "torch " + torch->version.str() + " " + torch->cxx_abi.value_or("-");
  } else if (const auto* stable = std::get_if<TorchStableFramework>(&variant->framework())) {
    text = "stable " + stable->abi.str();
  } else if (const auto* tvm = std::get_if<TvmFfiFramework>(&variant->framework())) {
    text = "tvm " + tvm->version.str();
  } else {
    return "noarch " + std::get<NoarchFramework>(variant->framework()).name;
  }
  return text + " " + variant->backend()->compute_name() + " " + variant->cpu() + " " +
         variant->os();
}

struct Row {
  const char* name;
  const char* expected;
};

class VariantName : public testing::TestWithParam<Row> {};

TEST_P(VariantName, ParsesByTheGrammar) {
  EXPECT_EQ(parsed(GetParam().name), GetParam().expected) << GetParam().name;
}

const Row kRows[] = {
    {"torch28-cpu-x86_64-linux", "torch 2.8 - cpu x86_64 linux"},
    {"torch211-cxx11-cu130-x86_64-linux", "torch 2.11 cxx11 cu130 x86_64 linux"},
    {"torch211-cxx98-cu130-aarch64-linux", "torch 2.11 cxx98 cu130 aarch64 linux"},
    {"torch211-cu130-x86_64-windows", "torch 2.11 - cu130 x86_64 windows"},
    {"torch211-metal-aarch64-darwin", "torch 2.11 - metal aarch64 darwin"},
    {"torch211-cxx11-rocm71-x86_64-linux", "torch 2.11 cxx11 rocm71 x86_64 linux"},
    {"torch211-cxx11-xpu20253-x86_64-linux", "torch 2.11 cxx11 xpu20253 x86_64 linux"},
    {"torch211-cxx11-cann85-aarch64-linux", "torch 2.11 cxx11 cann85 aarch64 linux"},
    {"torch211-cxx11-neuron-x86_64-linux", "torch 2.11 cxx11 neuron x86_64 linux"},
    {"torch211-cxx11-tpu-x86_64-linux", "torch 2.11 cxx11 tpu x86_64 linux"},
    {"torch211-cxx11-cpu-riscv64-plan9", "torch 2.11 cxx11 cpu riscv64 plan9"},
    {"torch-stable-abi210-cu130-x86_64-linux", "stable 2.10 cu130 x86_64 linux"},
    {"torch-stable-abi29-cpu-x86_64-linux", "stable 2.9 cpu x86_64 linux"},
    {"tvm-ffi01-cu130-x86_64-linux", "tvm 0.1 cu130 x86_64 linux"},
    {"tvm-ffi010-cpu-x86_64-linux", "tvm 0.10 cpu x86_64 linux"},
    {"tvm-ffi110-cpu-x86_64-linux", "tvm 1.10 cpu x86_64 linux"},
    {"torch-cuda", "noarch cuda"},
    {"torch-universal", "noarch universal"},
    {"torch-npu", "noarch npu"},
    {"torch-ext", "noarch ext"},
    {"torch-a-b-c", "noarch a-b-c"},
    {"torch", "noarch "},
    {"torch2-cpu-x86_64-linux", "invalid"},
    {"torch-stable-abi2-cpu-x86_64-linux", "invalid"},
    {"torch-stable-abi-cpu-x86_64-linux", "invalid"},
    {"torch-stable-abi", "invalid"},
    {"torch211-cxx11-cuda-x86_64-linux", "invalid"},
    {"torch211-cxx11-cu3-x86_64-linux", "invalid"},
    {"torch-stable-abi210-cxx11-cpu-x86_64-linux", "invalid"},
    {"torch211-cxx12-cpu-x86_64-linux", "invalid"},
    {"torch211-cxx11-cpu-x86_64", "invalid"},
    {"torch211-cpu-x86_64", "invalid"},
    {"torch211-cxx11-cpu-x86_64-linux-gnu", "invalid"},
    {"torch211-cxx11-cpu+avx512-x86_64-linux", "invalid"},
    {"torch211-cxx11-cpu--linux", "invalid"},
    {"torch211", "invalid"},
    {"torch2\xD9\xA1-cpu-x86_64-linux", "invalid"},
    {"torchx11-cpu-x86_64-linux", "invalid"},
    {"tvm-cpu-x86_64-linux", "invalid"},
    {"tvm", "invalid"},
    {"tvm-ffi1-cpu-x86_64-linux", "invalid"},
    {"jax01-cpu-x86_64-linux", "invalid"},
    {"", "invalid"},
    {"-", "invalid"},
};
INSTANTIATE_TEST_SUITE_P(Grammar, VariantName, testing::ValuesIn(kRows));

}  // namespace
}  // namespace kernelhub
