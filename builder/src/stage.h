// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "source_tree.h"

#include "kernelhub/builder/build_plan.h"
#include "kernelhub/core/file_lock.h"

#include <filesystem>
#include <optional>
#include <string>

namespace kernelhub::builder {

/// Private copy of the sources in a folder whose full path follows from their hash only, because
/// nvcc puts the path of a source into its object (package spec 9). Locked for the life of the
/// object, emptied at its end.
class Stage {
 public:
  /// Throws kUnsafePath when somebody else owns the folder, kLockTimeout, kIo, kDiskFull.
  Stage(const SourceTree& sources, const VariantPlan& plan);
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;
  ~Stage();
  const std::filesystem::path& directory() const noexcept { return directory_; }

 private:
  void write_generated() const;

  std::filesystem::path directory_;
  std::optional<FileLock> lock_;
};

}  // namespace kernelhub::builder
