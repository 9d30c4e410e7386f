// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/builder/build_toml.h"
#include "kernelhub/builder/toolchain.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kernelhub::builder {

enum class FrameworkKind : std::uint8_t { kTorch, kTorchStable, kTvmFfi, kNoarch };

/// One variant directory to make.
struct VariantPlan {
  std::string variant;  // directory name
  FrameworkKind framework = FrameworkKind::kNoarch;
  BackendKind backend = BackendKind::kCpu;
  std::optional<MajorMinor> stable_abi;      // kTorchStable
  std::string id;                            // namespace, module name and stem of the binary
  std::vector<const Component*> components;  // of the BuildToml, which must outlive the plan
  std::vector<std::vector<std::string>> component_archs;  // CUDA capabilities of each component
  std::vector<std::string> archs;                         // their union

  bool is_torch() const noexcept {
    return framework == FrameworkKind::kTorch || framework == FrameworkKind::kTorchStable;
  }
  /// "<id>.abi3.so" for torch, "<id>.so" for tvm-ffi, "" for noarch.
  std::string binary() const;
};

/// A variant that this machine cannot build, and why.
struct SkippedVariant {
  std::string what;  // variant name, or "<framework> for <backend>" when it cannot be named
  std::string reason;
};

struct PlanFilter {
  std::optional<BackendKind> backend;
  std::optional<std::string> variant;
  /// Replaces the cuda-capabilities of every component that is not written for one chip only (all
  /// of its own have a suffix, as "9.0a"): its instructions exist nowhere else.
  std::vector<std::string> archs;
  /// Only these components, without the bindings; empty: everything.
  std::vector<std::string> components;
};

struct BuildPlan {
  std::vector<VariantPlan> variants;
  std::vector<SkippedVariant> skipped;
};

/// Every variant that the project declares, split into what this toolchain builds and what not.
/// `uid`: unique part of the ids. Pure. Throws kBuildTomlInvalid when a component's capabilities
/// and the toolkit's have nothing in common.
BuildPlan plan_build(const BuildToml& project, const Toolchain& tools, const std::string& uid,
                     const PlanFilter& filter);

}  // namespace kernelhub::builder
