// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/builder/check.h"

#include "child_process.h"
#include "expect_error.h"
#include "temp_directory.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/trust/verifier.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace kernelhub::builder {
namespace {

constexpr const char* kId = "_relu_cpu_abc1234";
constexpr const char* kInit =
    "__attribute__((visibility(\"default\"))) void* PyInit__relu_cpu_abc1234(void) "
    "{ return 0; }\n";

/// A variant directory with one library compiled from given text and flags.
class CheckTest : public testing::Test {
 protected:
  std::filesystem::path make(const std::string& code, const std::vector<std::string>& flags = {},
                             const std::string& variant = "torch211-cxx11-cpu-x86_64-linux",
                             const std::string& language = "c") {
    const std::string folder = variant + "/";
    directory_.write(folder + "__init__.py", "");
    const std::filesystem::path source = directory_.write("source." + language, code);
    const std::filesystem::path library = directory_ / (folder + kId + ".abi3.so");
    std::vector<std::string> command{
        language == "c" ? "gcc" : "g++", "-shared", "-fPIC", "-O1", "-fvisibility=hidden",
        "-Wl,-z,relro,-z,noexecstack"};
    command.insert(command.end(), {source.string(), "-o", library.string()});
    command.insert(command.end(), flags.begin(), flags.end());
    const ProcessResult result = run_process(command);
    EXPECT_EQ(result.exit_code, 0) << result.output;
    write_metadata(directory_ / variant);
    return directory_ / variant;
  }

  void write_metadata(const std::filesystem::path& variant) {
    Metadata metadata;
    metadata.name = "relu";
    metadata.id = kId;
    metadata.version = 1;
    metadata.license = "MIT";
    metadata.digest = trust::compute_variant_digest(variant, DigestAlgorithm::kSha256);
    write_file_atomically(variant / "metadata.json", metadata.to_json());
  }

  TempDirectory directory_;
};

bool has(const std::vector<CheckFinding>& findings, const std::string& check,
         const std::string& part) {
  return std::any_of(findings.begin(), findings.end(), [&](const CheckFinding& finding) {
    return finding.check == check && finding.str().find(part) != std::string::npos;
  });
}

std::string all(const std::vector<CheckFinding>& findings) {
  std::string text;
  for (const CheckFinding& finding : findings) text += finding.str() + "\n";
  return text;
}

TEST_F(CheckTest, FindsNothingInACleanVariant) {
  const auto findings = check_variant(make(kInit));
  EXPECT_TRUE(findings.empty()) << all(findings);
}

TEST_F(CheckTest, FindsARunPath) {
  EXPECT_TRUE(has(check_variant(make(kInit, {"-Wl,-rpath,/opt/lib"})), "rpath", "/opt/lib"));
  EXPECT_FALSE(has(check_variant(make(kInit, {"-Wl,-rpath,$ORIGIN/lib"})), "rpath", "ORIGIN"));
}

TEST_F(CheckTest, FindsAnExecutableStack) {
  EXPECT_TRUE(has(check_variant(make(kInit, {"-Wl,-z,execstack"})), "memory", "GNU_STACK"));
}

TEST_F(CheckTest, FindsMissingRelro) {
  EXPECT_TRUE(has(check_variant(make(kInit, {"-Wl,-z,norelro"})), "memory", "GNU_RELRO"));
}

TEST_F(CheckTest, FindsAUniqueSymbol) {
  const std::string code = std::string("extern \"C\" ") + kInit +
                           "struct __attribute__((visibility(\"default\"))) S { static inline int "
                           "count = 1; };\nint* use() { return &S::count; }\n";
  EXPECT_TRUE(has(check_variant(make(code, {"-fgnu-unique", "-std=c++17"},
                                     "torch211-cxx11-cpu-x86_64-linux", "cpp")),
                  "unique-symbols", "S::count"));
}

TEST_F(CheckTest, FindsASymbolOfANewerGlibcInAStrippedLibrary) {
  const std::string code = std::string(kInit) +
                           "extern char __libc_single_threaded;\n"
                           "char use(void) { return __libc_single_threaded; }\n";
  const auto folder = make(code, {"-Wl,--strip-all", "-Wl,-u,use"});
  const auto findings = check_variant(folder);
  EXPECT_TRUE(has(findings, "manylinux", "__libc_single_threaded")) << all(findings);
  EXPECT_TRUE(has(findings, "manylinux", "GLIBC_2.32")) << all(findings);
  CheckOptions newer;
  newer.manylinux = "manylinux_2_34";
  EXPECT_FALSE(has(check_variant(folder, newer), "manylinux", "GLIBC_2.32"));
  newer.manylinux = "manylinux_9_9";
  EXPECT_EQ(code_of([&] { check_variant(folder, newer); }), ErrorCode::kInvalidArgument);
}

TEST_F(CheckTest, WarnsOfExportsAndMakesThemErrorsWhenStrict) {
  const auto folder =
      make(std::string(kInit) + "int helper(void) { return 1; }\n", {"-fvisibility=default"});
  const auto findings = check_variant(folder);
  EXPECT_TRUE(has(findings, "exports", "helper")) << all(findings);
  EXPECT_FALSE(has_errors(findings));
  CheckOptions strict;
  strict.strict = true;
  EXPECT_TRUE(has_errors(check_variant(folder, strict)));
}

TEST_F(CheckTest, HoldsPythonSymbolsToTheStableAbi) {
  const std::string code =
      std::string(kInit) +
      "extern void* PyUnicode_AsUTF8AndSize(void*, long*);\n"
      "extern void* _PyLong_Sign(void*);\nextern void* PyLong_FromLong(long);\n"
      "__attribute__((visibility(\"default\"))) void* __tvm_ffi_x(void) { "
      "return (char*)PyUnicode_AsUTF8AndSize(0, 0) + (long)_PyLong_Sign(0) + "
      "(long)PyLong_FromLong(1); }\n";
  const auto findings = check_variant(make(code));
  EXPECT_TRUE(has(findings, "python-abi", "PyUnicode_AsUTF8AndSize: found in it since 3.10"))
      << all(findings);
  EXPECT_TRUE(has(findings, "python-abi", "_PyLong_Sign: found not in the stable ABI"));
  EXPECT_FALSE(has(findings, "python-abi", "PyLong_FromLong"));
}

TEST_F(CheckTest, HoldsAStableVariantToItsTorchAbi) {
  const std::string code =
      std::string("extern \"C\" ") + kInit +
      "extern \"C\" int torch_call_dispatcher();\nextern \"C\" int aoti_torch_get_dim();\n"
      "namespace at { int internal(); }\n"
      "extern \"C\" __attribute__((visibility(\"default\"))) int __tvm_ffi_x() { return "
      "torch_call_dispatcher() + aoti_torch_get_dim() + at::internal(); }\n";
  const auto old = check_variant(make(code, {}, "torch-stable-abi29-cpu-x86_64-linux", "cpp"));
  EXPECT_TRUE(has(old, "torch-stable-abi", "torch_call_dispatcher: found in the C shim since"))
      << all(old);
  EXPECT_TRUE(has(old, "torch-stable-abi", "at::internal()"));
  EXPECT_FALSE(has(old, "torch-stable-abi", "aoti_torch_get_dim"));
  const auto fits = check_variant(make(code, {}, "torch-stable-abi210-cpu-x86_64-linux", "cpp"));
  EXPECT_FALSE(has(fits, "torch-stable-abi", "torch_call_dispatcher")) << all(fits);
}

TEST_F(CheckTest, ComparesTheNameOfTheVariantWithItsContent) {
  EXPECT_TRUE(has(check_variant(make("int x;\n")), "variant", "PyInit__relu_cpu_abc1234"));
  EXPECT_TRUE(has(check_variant(make(kInit, {}, "torch211-cxx11-cpu-aarch64-linux")), "variant",
                  "machine"));
  EXPECT_TRUE(has(check_variant(make(kInit, {}, "torch211-cxx11-cu130-x86_64-linux")), "variant",
                  "backend.type"));
  EXPECT_EQ(code_of([&] { check_variant(make(kInit, {}, "no-variant")); }),
            ErrorCode::kPackageInvalid);
}

TEST_F(CheckTest, FindsALibraryThatHostsDoNotPromise) {
  const std::string other = directory_.write("other.c", "int other(void) { return 1; }\n");
  const std::string library = (directory_ / "libother.so.3").string();
  ASSERT_EQ(
      run_process({"gcc", "-shared", "-fPIC", "-Wl,-soname,libother.so.3", "-o", library, other})
          .exit_code,
      0);
  EXPECT_TRUE(
      has(check_variant(make(kInit, {"-Wl,--no-as-needed", library})), "needed", "libother.so.3"));
}

TEST_F(CheckTest, FindsFilesThatDifferFromTheDigest) {
  const auto folder = make(kInit);
  write_file_atomically(folder / "__init__.py", "import os\n");
  EXPECT_TRUE(has(check_variant(folder), "digest", "__init__.py"));
  EXPECT_EQ(code_of([&] { require_clean(folder); }), ErrorCode::kStaleDigest);
  write_metadata(folder);
  EXPECT_EQ(code_of([&] { require_clean(folder); }), std::nullopt);
}

TEST_F(CheckTest, FindsBytecodeAndAMissingBinary) {
  const auto folder = make(kInit);
  write_file_atomically(folder / "x.pyc", "x");
  std::filesystem::create_directory(folder / "__pycache__");
  write_file_atomically(folder / "__pycache__/y.pyc", "y");
  std::filesystem::remove(folder / (std::string(kId) + ".abi3.so"));
  const auto findings = check_variant(folder);
  EXPECT_TRUE(has(findings, "content", "x.pyc")) << all(findings);
  EXPECT_FALSE(has(findings, "content", "y.pyc"));
  EXPECT_TRUE(has(findings, "variant", "binary"));
}

TEST_F(CheckTest, FindsVariantsInTheUsualPlaces) {
  make(kInit, {}, "build/torch211-cxx11-cpu-x86_64-linux");
  ASSERT_EQ(find_variants(directory_.path()).size(), 1u);
  EXPECT_EQ(find_variants(directory_ / "build").size(), 1u);
  EXPECT_EQ(find_variants(directory_ / "build/torch211-cxx11-cpu-x86_64-linux").size(), 1u);
  const TempDirectory empty;
  EXPECT_EQ(code_of([&] { find_variants(empty.path()); }), ErrorCode::kPackageInvalid);
}

}  // namespace
}  // namespace kernelhub::builder
