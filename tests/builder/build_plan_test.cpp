// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/builder/build_plan.h"

#include "compile_commands.h"
#include "expect_error.h"

#include <gtest/gtest.h>

namespace kernelhub::builder {
namespace {

Toolchain full_toolchain() {
  Toolchain tools;
  tools.cxx = "/usr/bin/g++";
  tools.cc = "/usr/bin/gcc";
  tools.cpu = "x86_64";
  tools.nvcc = Toolchain::Nvcc{"/cuda/bin/nvcc", "/cuda", {13, 0}, "13.0.88"};
  tools.torch = Toolchain::Torch{"/torch", {2, 11}, "2.11.0+cu130", MajorMinor{13, 0}, true};
  tools.tvm_ffi = Toolchain::TvmFfi{"/tvm", {0, 1}, "0.1.15"};
  return tools;
}

Component component(std::string name, BackendKind backend, std::vector<std::string> src,
                    std::vector<std::string> flags = {}) {
  Component made;
  made.name = std::move(name);
  made.backend = backend;
  made.src = std::move(src);
  made.cxx_flags = std::move(flags);
  return made;
}

BuildToml two_backends() {
  BuildToml project;
  project.name = "my-op";
  project.version = 3;
  project.backends = {BackendKind::kCpu, BackendKind::kCuda};
  project.torch = TorchSection{};
  project.torch->src = {"torch-ext/b.cpp"};
  project.torch->stable_abi[BackendKind::kCuda] = {2, 10};
  project.tvm_ffi = TvmFfiSection{};
  project.tvm_ffi->src = {"tvm-ffi-ext/b.c"};
  project.components = {component("a", BackendKind::kCpu, {"a.cpp"}),
                        component("b", BackendKind::kCuda, {"b.cu"})};
  return project;
}

std::vector<std::string> names(const BuildPlan& plan) {
  std::vector<std::string> list;
  for (const VariantPlan& variant : plan.variants) list.push_back(variant.variant);
  return list;
}

bool has(const std::vector<std::string>& arguments, const std::string& wanted) {
  return std::find(arguments.begin(), arguments.end(), wanted) != arguments.end();
}

TEST(BuildPlanTest, NamesVariantsByFrameworkAndBackend) {
  const BuildToml project = two_backends();
  const BuildPlan plan = plan_build(project, full_toolchain(), "abc1234", {});
  EXPECT_EQ(names(plan),
            (std::vector<std::string>{
                "torch211-cxx11-cpu-x86_64-linux", "tvm-ffi01-cpu-x86_64-linux",
                "torch-stable-abi210-cu130-x86_64-linux", "tvm-ffi01-cu130-x86_64-linux"}));
  EXPECT_EQ(plan.variants[0].id, "_my_op_cpu_abc1234");
  EXPECT_EQ(plan.variants[0].binary(), "_my_op_cpu_abc1234.abi3.so");
  EXPECT_EQ(plan.variants[3].binary(), "_my_op_cuda_abc1234.so");
  EXPECT_EQ(plan.variants[2].archs.size(), 10u);
}

TEST(BuildPlanTest, SaysWhyAVariantIsSkipped) {
  const BuildToml project = two_backends();
  Toolchain tools = full_toolchain();
  tools.nvcc.reset();
  BuildPlan plan = plan_build(project, tools, "u", {});
  ASSERT_EQ(plan.skipped.size(), 2u);
  EXPECT_EQ(plan.skipped[0].what, "torch for cuda");
  EXPECT_EQ(plan.skipped[0].reason, "nvcc is not on PATH");

  tools = full_toolchain();
  tools.nvcc->version = {12, 8};
  plan = plan_build(project, tools, "u", {});
  EXPECT_EQ(plan.skipped[0].reason, "nvcc is 12.8, torch was built with 13.0");

  tools = full_toolchain();
  tools.torch->version = {2, 9};
  plan = plan_build(project, tools, "u", {});
  EXPECT_EQ(plan.skipped[0].reason, "stable ABI 2.10 needs torch 2.10, found 2.9");

  tools.torch.reset();
  EXPECT_EQ(plan_build(project, tools, "u", {}).skipped.size(), 2u);
}

TEST(BuildPlanTest, FiltersByBackendAndVariant) {
  const BuildToml project = two_backends();
  PlanFilter filter;
  filter.backend = BackendKind::kCpu;
  EXPECT_EQ(plan_build(project, full_toolchain(), "u", filter).variants.size(), 2u);
  filter.variant = "tvm-ffi01-cpu-x86_64-linux";
  EXPECT_EQ(plan_build(project, full_toolchain(), "u", filter).variants.size(), 1u);
}

TEST(BuildPlanTest, PackagesABackendWithoutComponentsAsNoarch) {
  BuildToml project = two_backends();
  project.tvm_ffi.reset();
  project.components.pop_back();
  const BuildPlan plan = plan_build(project, full_toolchain(), "u", {});
  ASSERT_EQ(plan.variants.size(), 2u);
  EXPECT_EQ(plan.variants[1].variant, "torch-cuda");
  EXPECT_EQ(plan.variants[1].binary(), "");
}

TEST(BuildPlanTest, RefusesCapabilitiesThatNoToolkitArchServes) {
  BuildToml project = two_backends();
  project.components[1].cuda_capabilities = {"5.0"};
  const Error error = error_of([&] { plan_build(project, full_toolchain(), "u", {}); });
  EXPECT_EQ(error.code(), ErrorCode::kBuildTomlInvalid);
  EXPECT_NE(std::string(error.what()).find("5.0"), std::string::npos);
}

TEST(CompileCommandsTest, PutsObjectsOfNewerInstructionSetsLast) {
  BuildToml project = two_backends();
  project.components = {component("amx", BackendKind::kCpu, {"x.cpp"}, {"-mamx-tile"}),
                        component("avx512", BackendKind::kCpu, {"y.cpp"}, {"-mavx512f"}),
                        component("avx2", BackendKind::kCpu, {"z.cpp"}, {"-march=haswell"}),
                        component("base", BackendKind::kCpu, {"w.cpp"})};
  const Toolchain tools = full_toolchain();
  PlanFilter filter;
  filter.backend = BackendKind::kCpu;
  const BuildPlan plan = plan_build(project, tools, "u", filter);
  const CompileCommands commands =
      compile_commands(project, plan.variants[0], tools, {}, "/stage", {});
  std::vector<std::string> order;
  for (const ObjectGroup& group : commands.groups) order.push_back(group.name);
  EXPECT_EQ(order, (std::vector<std::string>{"torch", "base", "avx2", "avx512", "amx"}));
}

TEST(CompileCommandsTest, ChosenArchsLeaveAComponentOfOneChipItsOwn) {
  BuildToml project = two_backends();
  project.components[1].cuda_capabilities = {"8.0", "9.0+PTX"};
  project.components.push_back(component("wgmma", BackendKind::kCuda, {"w.cu"}));
  project.components.back().cuda_capabilities = {"9.0a"};
  const Toolchain tools = full_toolchain();
  PlanFilter filter;
  filter.archs = {"9.0"};
  const BuildPlan plan = plan_build(project, tools, "u", filter);
  const VariantPlan& cuda = plan.variants.back();
  EXPECT_EQ(cuda.archs, (std::vector<std::string>{"9.0", "9.0a"}));
  const std::vector<CompileJob> jobs =
      compile_commands(project, cuda, tools, {}, "/stage", {}).jobs;
  const auto& plain = jobs[jobs.size() - 2].arguments;
  const auto& wgmma = jobs.back().arguments;
  EXPECT_TRUE(has(plain, "arch=compute_90,code=sm_90"));
  EXPECT_FALSE(has(plain, "arch=compute_90a,code=sm_90a"));
  EXPECT_TRUE(has(wgmma, "arch=compute_90a,code=sm_90a"));
  EXPECT_FALSE(has(wgmma, "arch=compute_90,code=sm_90"));
}

TEST(CompileCommandsTest, SetsTheDefinesOfEachFramework) {
  const BuildToml project = two_backends();
  const Toolchain tools = full_toolchain();
  const BuildPlan plan = plan_build(project, tools, "u", {});
  const auto arguments = [&](std::size_t variant) {
    return compile_commands(project, plan.variants[variant], tools, {}, "/stage", {})
        .jobs.front()
        .arguments;
  };
  EXPECT_TRUE(has(arguments(0), "-DTORCH_EXTENSION_NAME=_my_op_cpu_u"));
  EXPECT_TRUE(has(arguments(0), "-DCPU_KERNEL"));
  EXPECT_TRUE(has(arguments(0), "-std=c++17"));
  EXPECT_TRUE(has(arguments(1), "-DKERNELHUB_PACKAGE_VERSION=3"));
  EXPECT_TRUE(has(arguments(2), "-DTORCH_TARGET_VERSION=0x020a000000000000"));
}

TEST(CompileCommandsTest, CompilesAComponentWithoutTorchOnceForBothFrameworks) {
  BuildToml project = two_backends();
  project.components.push_back(component("t", BackendKind::kCpu, {"t.cpp"}));
  project.components.back().depends = {"torch"};
  const Toolchain tools = full_toolchain();
  const BuildPlan plan = plan_build(project, tools, "u", {});
  const auto jobs = [&](std::size_t variant) {
    return compile_commands(project, plan.variants[variant], tools, {}, "/stage", {}).jobs;
  };
  const std::vector<CompileJob> torch = jobs(0), tvm_ffi = jobs(1), cuda = jobs(2);
  ASSERT_EQ(torch.size(), 3u);
  ASSERT_EQ(tvm_ffi.size(), 2u);
  EXPECT_TRUE(torch[1].is_shared);
  EXPECT_EQ(torch[1].object, tvm_ffi[1].object);
  EXPECT_EQ(torch[1].arguments, tvm_ffi[1].arguments);
  EXPECT_FALSE(has(torch[1].arguments, "-DTORCH_EXTENSION_NAME=_my_op_cpu_u"));
  EXPECT_TRUE(has(cuda[1].arguments, "arch=compute_121,code=compute_121"));
  EXPECT_TRUE(has(cuda[1].arguments, "-fno-gnu-unique"));
  EXPECT_FALSE(has(torch[1].arguments, "/torch/include"));
  EXPECT_FALSE(has(tvm_ffi[1].arguments, "/tvm/include"));
  EXPECT_TRUE(has(tvm_ffi[0].arguments, "/tvm/include"));
  EXPECT_FALSE(torch[0].is_shared || torch[2].is_shared);
  EXPECT_TRUE(has(torch[2].arguments, "-DTORCH_EXTENSION_NAME=_my_op_cpu_u"));
  EXPECT_NE(torch[0].object, tvm_ffi[0].object);
  project.tvm_ffi.reset();  // the peer builds such a project, and lets every component see torch
  const BuildPlan alone = plan_build(project, tools, "u", {});
  const std::vector<CompileJob> peer =
      compile_commands(project, alone.variants[0], tools, {}, "/stage", {}).jobs;
  EXPECT_FALSE(peer[1].is_shared);
  EXPECT_TRUE(has(peer[1].arguments, "-DTORCH_EXTENSION_NAME=_my_op_cpu_u"));
}

TEST(CompileCommandsTest, NamesADependencyWithoutAFolder) {
  BuildToml project = two_backends();
  project.components[1].depends = {"cutlass_4_0"};
  const Toolchain tools = full_toolchain();
  const BuildPlan plan = plan_build(project, tools, "u", {});
  const Error error =
      error_of([&] { compile_commands(project, plan.variants[2], tools, {}, "/stage", {}); });
  EXPECT_EQ(error.code(), ErrorCode::kToolchainMissing);
  EXPECT_NE(error.hint().find("--dep cutlass_4_0=DIR"), std::string::npos);
}

}  // namespace
}  // namespace kernelhub::builder
