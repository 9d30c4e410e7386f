// SPDX-License-Identifier: Apache-2.0
// Packages that are Python modules too, in a process without Python (loader spec P1-P5). CTest runs
// these a second time with LD_BIND_NOW set.
#include "expect_error.h"
#include "fixture_package.h"
#include "needed_libraries.h"

#include "kernelhub/loader/mapped_symbol.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace kernelhub {
namespace {

std::int64_t answer_of(const FixturePackage& package) {
  return package.kernel().function("answer")({}).as_int();
}

TEST(PythonLess, ProcessHasNoPython) { EXPECT_FALSE(loader::is_python_in_process()); }

TEST(PythonLess, LoadsALazilyBoundModuleAsItIs) {
  const FixturePackage package("_init_lazy");
  EXPECT_EQ(answer_of(package), 42);
  const bool binds_at_once = std::getenv("LD_BIND_NOW") != nullptr;
  EXPECT_EQ(package.load().info().python_weak, binds_at_once);
  EXPECT_EQ(package.load().info().load_mode, binds_at_once ? "sealed" : "fd");
}

TEST(PythonLess, WeakensTheReferencesOfAModuleThatBindsAtOnce) {
  const FixturePackage package("_init_now");
  EXPECT_EQ(answer_of(package), 42);
  EXPECT_TRUE(package.load().info().python_weak);
  EXPECT_EQ(package.load().info().load_mode, "sealed");
}

TEST(PythonLess, WeakensReferencesThatBypassTheLinkageTable) {
  const FixturePackage package("_init_no_plt");
  EXPECT_EQ(answer_of(package), 42);
  EXPECT_TRUE(package.load().info().python_weak);
}

TEST(PythonLess, SealsAndWeakensWhenThePolicyAsksForACopy) {
  const FixturePackage package("_init_lazy_again");
  PackageLoadOptions options;
  options.require_sealed = true;
  const Kernel kernel = package.kernel(options);
  EXPECT_TRUE(kernel.package().info().python_weak);
  EXPECT_EQ(kernel.function("answer")({}).as_int(), 43);
}

TEST(PythonLess, RefusesAPackageThatUsesPythonObjects) {
  const FixturePackage package("_needs_python");
  EXPECT_EQ(code_of([&] { package.load(); }), ErrorCode::kPythonRequired);
}

TEST(PythonLess, StandsInForATorchPythonThatNothingIsUsedOf) {
  const FixturePackage package("_needs_torch_python");
  EXPECT_EQ(package.kernel().function("salt")({}).as_int(), 77);
  EXPECT_EQ(loader::mapped_symbol("libtorch_python.so", "PyInit_torch"), nullptr);
}

}  // namespace
}  // namespace kernelhub
