// SPDX-License-Identifier: Apache-2.0
#include "check_dependencies.h"

#include "kernelhub/core/error.h"

#include <gtest/gtest.h>

#include <functional>
#include <optional>

namespace kernelhub {
namespace {

std::optional<ErrorCode> code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

TEST(CheckDependencies, AcceptsTheEmulatedClientLevelAndRefusesNewerOnes) {
  Metadata metadata;
  metadata.kernels_minver = "0.17.2";
  EXPECT_EQ(code_of([&] { check_dependencies(metadata, "o/k"); }), std::nullopt);
  for (const char* newer : {"0.17.3", "0.18.0", "1.0.0", "0.17"}) {
    metadata.kernels_minver = newer;
    EXPECT_EQ(code_of([&] { check_dependencies(metadata, "o/k"); }), ErrorCode::kClientTooOld)
        << newer;
  }
}

TEST(CheckDependencies, RefusesKernelDependsByName) {
  Metadata metadata;
  metadata.kernel_depends.push_back({RepoId::parse("org/other"), KernelSpec::of_version(1)});
  EXPECT_EQ(code_of([&] { check_dependencies(metadata, "o/k"); }),
            ErrorCode::kDependencyUnsupported);
}

struct ArchCase {
  std::vector<std::string> archs;
  MajorMinor device;
  bool fits;
};

TEST(CheckArch, FollowsSuffixRulesOfTheEntries) {
  const ArchCase cases[] = {
      {{"8.0"}, {8, 0}, true},    {{"8.0"}, {8, 6}, true},         {{"8.6"}, {8, 0}, false},
      {{"8.0"}, {9, 0}, false},   {{"9.0a"}, {9, 0}, true},        {{"10.0a"}, {10, 3}, false},
      {{"10.0f"}, {10, 3}, true}, {{"8.0+PTX"}, {12, 0}, true},    {{"12.1+PTX"}, {9, 0}, false},
      {{"odd"}, {9, 0}, true},    {{"odd", "8.0"}, {9, 0}, false}, {{"8.0", "9.0a"}, {9, 0}, true},
      {{}, {9, 0}, true},
  };
  for (const ArchCase& item : cases) {
    Metadata metadata;
    metadata.backend = BackendKind::kCuda;
    metadata.archs = item.archs;
    SystemInfo system;
    system.cuda_devices = {item.device};
    const auto code = code_of([&] { check_arch(metadata, system, "o/k"); });
    EXPECT_EQ(code, item.fits ? std::nullopt : std::optional(ErrorCode::kArchMismatch))
        << (item.archs.empty() ? "none" : item.archs.front()) << " on " << item.device.str();
  }
}

TEST(CheckArch, PassesWithoutADevice) {
  Metadata metadata;
  metadata.backend = BackendKind::kCuda;
  metadata.archs = {"9.0a"};
  EXPECT_EQ(code_of([&] { check_arch(metadata, SystemInfo{}, "o/k"); }), std::nullopt);
}

}  // namespace
}  // namespace kernelhub
