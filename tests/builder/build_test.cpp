// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/builder/build.h"

#include "expect_error.h"
#include "temp_directory.h"

#include "kernelhub/builder/check.h"
#include "kernelhub/builder/package_writer.h"
#include "kernelhub/core/atomic_file.h"

#include <gtest/gtest.h>

#include <map>

namespace kernelhub::builder {
namespace {

namespace fs = std::filesystem;
using Status = VariantOutcome::Status;

constexpr const char* kVariant = "tvm-ffi01-cpu-x86_64-linux";

/// A copy of the project `scale-by`, whose tvm-ffi variant is C only and needs no torch.
class BuildTest : public testing::Test {
 protected:
  BuildTest() { copy_to("one"); }

  fs::path copy_to(const std::string& folder) {
    const fs::path target = directory_ / folder / "scale-by";
    fs::create_directories(target.parent_path());
    fs::copy(fs::path(KERNELHUB_SOURCE_DIR) / "tests/fixtures/projects/scale-by", target,
             fs::copy_options::recursive);
    return target;
  }

  BuildReport build(const std::string& folder = "one") {
    BuildOptions options;
    options.directory = directory_ / folder / "scale-by";
    options.filter.variant = kVariant;
    return build_project(options);
  }

  fs::path variant(const std::string& folder = "one") {
    return directory_ / folder / "scale-by/build" / kVariant;
  }

  static const VariantOutcome& outcome(const BuildReport& report) {
    return report.variants.front();
  }

  TempDirectory directory_;
};

std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) {
      files[entry.path().lexically_relative(folder).string()] = read_file(entry.path());
    }
  }
  return files;
}

std::vector<std::string> entries(const fs::path& folder) {
  std::vector<std::string> names;
  if (!fs::exists(folder)) return names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

TEST_F(BuildTest, MakesACleanVariant) {
  const BuildReport report = build();
  ASSERT_EQ(outcome(report).status, Status::kBuilt) << outcome(report).reason;
  EXPECT_TRUE(check_variant(variant()).empty());
  const Metadata metadata = read_metadata(variant());
  EXPECT_EQ(metadata.name, "scale-by");
  EXPECT_EQ(metadata.id, outcome(report).id);
  EXPECT_EQ(metadata.kernelhub->variant, kVariant);
  EXPECT_EQ(metadata.kernelhub->repo_id, "kernels-test/scale-by");
  EXPECT_NE(metadata.kernelhub->layers_json.find("ScaleBy"), std::string::npos);
  EXPECT_TRUE(fs::exists(variant() / (metadata.id + ".so")));
}

TEST_F(BuildTest, MakesTheSameBytesInTwoDirectories) {
  copy_to("two/deeper");
  ASSERT_EQ(outcome(build("one")).status, Status::kBuilt);
  ASSERT_EQ(outcome(build("two/deeper")).status, Status::kBuilt);
  EXPECT_EQ(contents(variant("one")), contents(variant("two/deeper")));
}

TEST_F(BuildTest, LeavesAnUpToDateVariantAloneAndRebuildsAChangedOne) {
  build();
  EXPECT_EQ(outcome(build()).status, Status::kUpToDate);
  const std::string id = read_metadata(variant()).id;
  write_file_atomically(variant() / "_ops.py", "damaged\n");
  EXPECT_EQ(outcome(build()).status, Status::kBuilt);
  const fs::path source = directory_ / "one/scale-by/scale_by_cpu/scale_by.c";
  write_file_atomically(source, read_file(source) + "\n/* edited */\n");
  EXPECT_EQ(outcome(build()).status, Status::kBuilt);
  EXPECT_NE(read_metadata(variant()).id, id);
}

TEST_F(BuildTest, KeepsTheFormerVariantWhenCompilingFails) {
  build();
  const auto before = contents(variant());
  const fs::path source = directory_ / "one/scale-by/scale_by_cpu/scale_by.c";
  write_file_atomically(source, "#error planted\n");
  const BuildReport report = build();
  EXPECT_FALSE(report.ok());
  EXPECT_EQ(outcome(report).status, Status::kFailed);
  EXPECT_NE(outcome(report).reason.find("planted"), std::string::npos) << outcome(report).reason;
  EXPECT_EQ(contents(variant()), before);
  EXPECT_EQ(entries(directory_ / "one/scale-by/build"), std::vector<std::string>{kVariant});
}

TEST_F(BuildTest, PublishesNothingThatTheCheckRefuses) {
  const fs::path source = directory_ / "one/scale-by/scale_by_cpu/scale_by.c";
  write_file_atomically(source, "#include <sys/stat.h>\n" + read_file(source) +
                                    "int status_of(const char* path) { struct stat s; return "
                                    "stat(path, &s); }\n");
  const fs::path exports = directory_ / "one/scale-by/tvm-ffi-ext/abi_exports.c";
  write_file_atomically(exports, read_file(exports) +
                                     "int status_of(const char*);\nKH_EXPORT int "
                                     "__tvm_ffi_status(void) { return status_of(\"x\"); }\n");
  const BuildReport report = build();
  EXPECT_EQ(outcome(report).status, Status::kFailed);
  EXPECT_NE(outcome(report).reason.find("GLIBC_2.33"), std::string::npos) << outcome(report).reason;
  EXPECT_TRUE(entries(directory_ / "one/scale-by/build").empty());
}

TEST_F(BuildTest, PlansWithoutTouchingAnythingOnADryRun) {
  BuildOptions options;
  options.directory = directory_ / "one/scale-by";
  options.filter.variant = kVariant;
  options.dry_run = true;
  EXPECT_EQ(outcome(build_project(options)).status, Status::kPlanned);
  EXPECT_FALSE(fs::exists(directory_ / "one/scale-by/build"));
}

TEST_F(BuildTest, SaysWhyThereIsNothingToBuild) {
  BuildOptions options;
  options.directory = directory_ / "one/scale-by";
  options.filter.variant = "torch-cuda";
  const Error error = error_of([&] { build_project(options); });
  EXPECT_EQ(error.code(), ErrorCode::kNothingToBuild);
  EXPECT_NE(std::string(error.what()).find(kVariant), std::string::npos) << error.what();
}

TEST_F(BuildTest, TakesAUniqueIdOfTheCaller) {
  BuildOptions options;
  options.directory = directory_ / "one/scale-by";
  options.filter.variant = kVariant;
  options.dry_run = true;
  options.unique_id = "release_7";
  EXPECT_EQ(outcome(build_project(options)).id, "_scale_by_cpu_release_7");
  options.unique_id = "not/valid";
  EXPECT_EQ(code_of([&] { build_project(options); }), ErrorCode::kInvalidArgument);
}

TEST(MetadataTest, AsksForAClientThatKnowsKernelDependencies) {
  BuildToml project;
  project.name = "relu";
  VariantPlan plan;
  plan.id = "_relu_cpu_x";
  EXPECT_FALSE(make_metadata(project, plan, {}).kernels_minver);
  project.kernel_depends.push_back({RepoId::parse("org/other"), KernelSpec::of_version(1)});
  EXPECT_EQ(make_metadata(project, plan, {}).kernels_minver, "0.17.2");
}

}  // namespace
}  // namespace kernelhub::builder
