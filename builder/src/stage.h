// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "source_tree.h"

#include "kernelhub/builder/build_plan.h"
#include "kernelhub/builder/compile.h"
#include "kernelhub/core/file_lock.h"

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace kernelhub::builder {

/// Private copy of the sources in a folder whose full path follows from their hash, the backend and
/// the CUDA archs only, because nvcc puts the path of a source into its object (package spec 9):
/// variants that agree in these share it. Locked for the life of the object, emptied at its end.
class Stage {
 public:
  /// Throws kUnsafePath when somebody else owns the folder, kLockTimeout, kIo, kDiskFull.
  Stage(const SourceTree& sources, const VariantPlan& plan);
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;
  ~Stage();
  const std::filesystem::path& directory() const noexcept { return directory_; }

  /// Runs `jobs` as `run_jobs` does, without the shared ones that an earlier call ran to its end.
  void compile(const VariantPlan& plan, const std::vector<CompileJob>& jobs, int parallelism,
               ProgressObserver* progress);

 private:
  void write_generated() const;

  std::filesystem::path directory_;
  std::optional<FileLock> lock_;
  std::set<std::string> shared_objects_;
};

/// The stage of the variant that is being built: kept while the next one shares it.
class CurrentStage {
 public:
  explicit CurrentStage(const SourceTree& sources) : sources_(sources) {}
  /// Throws as the constructor of Stage does.
  Stage& of(const VariantPlan& plan);

 private:
  const SourceTree& sources_;
  std::string key_;
  std::optional<Stage> stage_;
};

}  // namespace kernelhub::builder
