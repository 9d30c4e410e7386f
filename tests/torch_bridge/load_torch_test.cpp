// SPDX-License-Identifier: Apache-2.0
// Torch packages in a process without Python.
#include "expect_error.h"
#include "torch_fixture.h"

#include "kernelhub/torch/op.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <dlfcn.h>

namespace kernelhub {
namespace {

using Scale = void(at::Tensor&, const at::Tensor&, double);

const FixturePackage& stable_1() {
  static const FixturePackage package = torch_package("_stable_cpu_1");
  return package;
}

float scaled(const Kernel& kernel, double factor) {
  const at::Tensor x = at::full({4}, 1.5);
  at::Tensor out = at::zeros_like(x);
  kernel.op<Scale>("scale")(out, x, factor);
  return out[3].item<float>();
}

TEST(LoadTorch, LearnsTheOpsOfAStablePackageFromTheirRegistration) {
  const Package package = stable_1().load();
  EXPECT_EQ(package.info().framework, PackageInfo::Framework::kTorch);
  EXPECT_EQ(package.info().op_namespace, "_stable_cpu_1");
  EXPECT_FALSE(package.info().attached);
  std::vector<std::string> schemas;
  for (const OpInfo& op : package.ops()) schemas.push_back(op.schema);
  const std::vector<std::string> expected{
      "_stable_cpu_1::scale(Tensor($0! -> ) out, Tensor x, float factor) -> ()",
      "_stable_cpu_1::count(Tensor x) -> int"};
  ASSERT_EQ(schemas.size(), expected.size());
  EXPECT_NE(schemas[0].find("_stable_cpu_1::scale("), std::string::npos) << schemas[0];
  EXPECT_EQ(schemas[1], expected[1]);
}

TEST(LoadTorch, KeepsTwoVersionsApartHoweverTheyBind) {
  const FixturePackage second = torch_package("_stable_cpu_2");
  const Kernel one = stable_1().kernel(), two = second.kernel();
  EXPECT_FALSE(one.package().info().python_weak);
  EXPECT_TRUE(two.package().info().python_weak);
  const at::Tensor x = at::full({1}, 0.0);
  const auto count = [&](const Kernel& kernel) {
    return kernel.op<std::int64_t(const at::Tensor&)>("count")(x);
  };
  const std::int64_t before = count(one);
  EXPECT_FLOAT_EQ(scaled(one, 2.0), 3.0f);
  EXPECT_FLOAT_EQ(scaled(two, 2.0), 6.0f);
  EXPECT_FLOAT_EQ(scaled(one, 4.0), 6.0f);
  EXPECT_EQ(count(one), before + 2);
}

TEST(LoadTorch, LoadsAClassicPackage) {
  const FixturePackage package = torch_package("_classic_cpu_1");
  EXPECT_FLOAT_EQ(scaled(package.kernel(), 3.0), 4.5f);
  EXPECT_EQ(package.load().ops().size(), 3u);
}

TEST(LoadTorch, RefusesOtherBytesUnderATakenNamespaceAndLivesOn) {
  const Kernel owner = stable_1().kernel();
  const FixturePackage stranger = torch_package("_stable_cpu_1", "_stable_stranger");
  const Error error = error_of([&] { stranger.load(); });
  EXPECT_EQ(error.code(), ErrorCode::kNamespaceConflict);
  const auto facts = nlohmann::json::parse(error.details());
  EXPECT_EQ(facts.at("namespace"), "_stable_cpu_1");
  EXPECT_EQ(facts.at("owner"), owner.package().info().binary.string());
  EXPECT_EQ(facts.at("owner_digest"), owner.package().info().binary_digest.hex());
  EXPECT_FLOAT_EQ(scaled(owner, 2.0), 3.0f);
}

TEST(LoadTorch, RefusesALibraryThatIsNamedUnlikeItsNamespace) {
  const FixturePackage renamed = torch_package("_renamed_cpu_1", "_stable_stranger");
  EXPECT_EQ(code_of([&] { renamed.load(); }), ErrorCode::kMetadataMismatch);
}

TEST(LoadTorch, FindsLibrariesOfTorchBesideTheMappedOne) {
  ASSERT_EQ(dlopen("libtorch.so", RTLD_LAZY | RTLD_NOLOAD), nullptr);
  const FixturePackage package("_needs_libtorch");
  EXPECT_EQ(package.kernel().function("salt")({}).as_int(), 79);
  EXPECT_NE(dlopen("libtorch.so", RTLD_LAZY | RTLD_NOLOAD), nullptr);
}

TEST(LoadTorch, RefusesAPackageWithoutOps) {
  const FixturePackage package = torch_package("_empty_cpu_1");
  EXPECT_EQ(code_of([&] { package.load(); }), ErrorCode::kNoOpsRegistered);
}

}  // namespace
}  // namespace kernelhub
