// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/loader/system.h"

#include "expect_error.h"
#include "temp_directory.h"

#include <gtest/gtest.h>

#include <gnu/libc-version.h>
#include <sys/utsname.h>

namespace kernelhub {
namespace {

TEST(System, TellsTheFactsOfThisMachine) {
  const SystemInfo& info = system();
  utsname names{};
  uname(&names);
  EXPECT_EQ(info.cpu, names.machine);
  EXPECT_EQ(info.os, "linux");
  EXPECT_EQ(info.glibc, gnu_get_libc_version());
  EXPECT_FALSE(info.python_in_process);
  EXPECT_EQ(info.tvm_ffi, (MajorMinor{0, 1}));
  EXPECT_EQ(&system(), &info);
}

TEST(System, ReadsATorchThatIsOnDisk) {
  TempDirectory directory;
  directory.write("torch/version.py",
                  "__version__ = '2.12.1+cu131'\ndebug = False\n"
                  "cuda: Optional[str] = '13.1'\nhip: Optional[str] = None\n");
  Config config;
  config.torch_prefix = directory / "torch";
  const SystemInfo info = probe_system(config);
  EXPECT_EQ(info.torch, (MajorMinor{2, 12}));
  EXPECT_EQ(info.backend, (Backend{BackendKind::kCuda, MajorMinor{13, 1}}));
  EXPECT_EQ(info.torch_library_dir, (directory / "torch/lib").string());
}

TEST(System, TakesANamedTorchForQuestionsAboutOtherMachines) {
  Config config;
  config.torch_version = "2.9+rocm64";
  const SystemInfo info = probe_system(config);
  EXPECT_EQ(info.torch, (MajorMinor{2, 9}));
  EXPECT_EQ(info.backend, (Backend{BackendKind::kRocm, MajorMinor{6, 4}}));
  config.torch_version = "2.9";
  EXPECT_EQ(probe_system(config).backend, Backend{});
}

TEST(System, RefusesSettingsThatNameNoTorch) {
  TempDirectory directory;
  Config config;
  config.torch_prefix = directory.path();
  EXPECT_EQ(code_of([&] { probe_system(config); }), ErrorCode::kInvalidConfig);
  config.torch_prefix.clear();
  config.torch_version = "newest";
  EXPECT_EQ(code_of([&] { probe_system(config); }), ErrorCode::kInvalidConfig);
  config.torch_version = "2.11+tape7";
  EXPECT_EQ(code_of([&] { probe_system(config); }), ErrorCode::kInvalidConfig);
}

}  // namespace
}  // namespace kernelhub
