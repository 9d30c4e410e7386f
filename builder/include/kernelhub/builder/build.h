// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/builder/build_plan.h"
#include "kernelhub/builder/build_toml.h"
#include "kernelhub/builder/toolchain.h"
#include "kernelhub/core/progress.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kernelhub::builder {

struct BuildOptions {
  std::filesystem::path directory = ".";
  PlanFilter filter;
  ToolchainRequest toolchain;
  std::optional<std::string> unique_id;  // [0-9A-Za-z_]+
  int jobs = 0;                          // 0: processors, lowered by memory
  bool dry_run = false;                  // plan only
  bool strict = false;                   // warnings are errors
  bool force = false;                    // rebuild what is up to date
  ProgressObserver* progress = nullptr;
};

struct VariantOutcome {
  enum class Status : std::uint8_t { kPlanned, kBuilt, kCompiled, kUpToDate, kFailed, kSkipped };
  std::string variant;
  Status status = Status::kPlanned;
  std::string id;
  std::filesystem::path directory;  // build/<variant>; empty when there is none
  std::vector<std::string> archs;
  double seconds = 0;
  std::string reason;  // why it failed or was skipped
  std::string hint;    // what to do about a failure
};

/// "planned", "built", "compiled", "up-to-date", "failed", "skipped".
std::string_view status_name(VariantOutcome::Status status) noexcept;

struct BuildReport {
  std::filesystem::path directory;
  std::string name;
  std::vector<Diagnostic> diagnostics;
  std::vector<VariantOutcome> variants;
  bool ok() const noexcept;
};

/// Builds every variant of a project that this machine can build: stage, compile, link, assemble,
/// check, import in a child, and only then put it at build/<variant> in one step. A variant whose
/// metadata names the same sources, id, archs and tools and whose digest fits is left alone. One
/// failing variant does not stop the others: it is reported as kFailed. With `filter.components`
/// those are compiled and nothing is packaged.
/// Blocks; starts processes, no network. Throws BuildError kBuildTomlInvalid,
/// kUnsupportedEdition, kToolchainMissing, kNothingToBuild, kUnsafePath.
BuildReport build_project(const BuildOptions& options);

}  // namespace kernelhub::builder
