// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/loader/preflight.h"

#include "expect_error.h"
#include "fixture_package.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

namespace kernelhub::loader {
namespace {

PreflightReport check(const std::string& name, PreflightOptions options = {}) {
  const UniqueFd fd = open_fixture(name);
  return preflight(fd.get(), name, options);
}

const Finding* find(const PreflightReport& report, const std::string& check) {
  const auto found = std::find_if(report.findings.begin(), report.findings.end(),
                                  [&](const Finding& finding) { return finding.check == check; });
  return found == report.findings.end() ? nullptr : &*found;
}

bool has_error(const PreflightReport& report, const std::string& check) {
  const Finding* finding = find(report, check);
  return finding != nullptr && finding->severity == Finding::Severity::kError && !report.ok();
}

TEST(Preflight, PassesAPureCPackageWithoutFindings) {
  const PreflightReport report = check("_scale_cpu_v1");
  EXPECT_TRUE(report.ok());
  EXPECT_TRUE(report.findings.empty());
  EXPECT_TRUE(report.facts.needed.empty() || report.facts.needed.front() == "libc.so.6");
  EXPECT_TRUE(report.facts.relro);
  EXPECT_FALSE(report.facts.build_id.empty());
}

TEST(Preflight, ReadsExportedAndUndefinedSymbols) {
  const ElfFacts facts = check("_missing_symbols", {false, false, false, {}}).facts;
  const auto has = [](const std::vector<ElfFacts::Symbol>& list, const std::string& name) {
    return std::any_of(list.begin(), list.end(), [&](const auto& s) { return s.name == name; });
  };
  EXPECT_TRUE(has(facts.defined, "__tvm_ffi_call"));
  EXPECT_TRUE(has(facts.undefined, "torch_library_impl"));
  EXPECT_FALSE(has(facts.defined, "torch_library_impl"));
}

TEST(Preflight, RefusesAnExecutableStack) {
  EXPECT_TRUE(has_error(check("_exec_stack"), "UnsafeElf"));
}

TEST(Preflight, RefusesTheNameOfASystemLibrary) {
  EXPECT_TRUE(has_error(check("_soname"), "UnsafeElf"));
}

TEST(Preflight, RefusesASearchPathUnlessTheFileIsLocal) {
  EXPECT_TRUE(has_error(check("_rpath"), "UnsafeElf"));
  PreflightOptions local;
  local.local_evidence = true;
  const PreflightReport report = check("_rpath", local);
  EXPECT_TRUE(report.ok());
  ASSERT_NE(find(report, "UnsafeElf"), nullptr);
  EXPECT_EQ(find(report, "UnsafeElf")->severity, Finding::Severity::kWarning);
}

TEST(Preflight, NotesSymbolsThatVersionsWouldShare) {
  const PreflightReport report = check("_unique");
  EXPECT_TRUE(report.ok());
  ASSERT_NE(find(report, "unique_symbols"), nullptr);
}

TEST(Preflight, ListsEveryMissingSymbolByWhatWouldBringIt) {
  const PreflightReport report = check("_missing_symbols");
  ASSERT_TRUE(has_error(report, "MissingSymbols"));
  const std::string& message = find(report, "MissingSymbols")->message;
  EXPECT_NE(message.find("3 symbols"), std::string::npos) << message;
  EXPECT_NE(message.find("torch 2.10"), std::string::npos) << message;
  EXPECT_NE(message.find("CUDA"), std::string::npos) << message;
  const UniqueFd fd = open_fixture("_missing_symbols");
  EXPECT_EQ(code_of([&] { require_preflight(fd.get(), "x", {}); }), ErrorCode::kMissingSymbols);
}

TEST(Preflight, RefusesALibraryThatOnlyTheEnvironmentHas) {
  const PreflightReport report = check("_needs_planted");
  ASSERT_TRUE(has_error(report, "MissingLibrary"));
  EXPECT_NE(find(report, "MissingLibrary")->message.find("libcudart.so.99"), std::string::npos);
}

TEST(Preflight, RefusesPythonObjectsInAProcessWithoutPython) {
  const PreflightReport report = check("_needs_python");
  ASSERT_TRUE(has_error(report, "PythonRequired"));
  EXPECT_NE(find(report, "PythonRequired")->message.find("PyExc_ValueError"), std::string::npos);
}

TEST(Preflight, ReadsTheInstructionSetThatAFileAsksFor) {
  EXPECT_EQ(check("_isa", {false, false, false, {}}).facts.x86_isa_level, 3);
}

TEST(Preflight, TellsLazyFromImmediateBinding) {
  const PreflightOptions file_only{false, false, false, {}};
  EXPECT_FALSE(check("_init_lazy", file_only).facts.bind_now);
  EXPECT_TRUE(check("_init_now", file_only).facts.bind_now);
  EXPECT_TRUE(check("_init_lazy", file_only).facts.non_plt_python.empty());
  const std::vector<std::string> expected{"PyModule_Create2"};
  EXPECT_EQ(check("_init_no_plt", file_only).facts.non_plt_python, expected);
}

TEST(Preflight, KnowsWhichDependenciesAPublishedPackageMayHave) {
  EXPECT_TRUE(is_allowed_dependency("libtorch_cpu.so"));
  EXPECT_TRUE(is_allowed_dependency("libcudart.so.13"));
  EXPECT_TRUE(is_allowed_dependency("libc.so.6"));
  EXPECT_FALSE(is_allowed_dependency("libopenblas.so.0"));
  EXPECT_FALSE(is_allowed_dependency("libtorch_python.so"));
}

TEST(Preflight, KnowsSinceWhenTorchHasAShimFunction) {
  EXPECT_EQ(shim_introduced_in("torch_call_dispatcher"), (MajorMinor{2, 10}));
  EXPECT_EQ(shim_introduced_in("torch_from_blob"), (MajorMinor{2, 11}));
  EXPECT_EQ(shim_introduced_in("aoti_torch_get_dim"), std::nullopt);
}

}  // namespace
}  // namespace kernelhub::loader
