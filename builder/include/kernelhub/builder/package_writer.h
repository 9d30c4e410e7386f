// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/builder/build_plan.h"
#include "kernelhub/builder/build_toml.h"
#include "kernelhub/core/metadata.h"

#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace kernelhub::builder {

/// Facts of one build that go into metadata.json beside the project's own.
struct PackageFacts {
  std::string uid;
  std::string source_hash;
  std::optional<GitProvenance> provenance;
  std::map<std::string, std::string> toolchain;  // tool -> version
  std::int64_t time = 0;                         // modification time of every file, s since 1970
};

/// metadata.json of a variant without its digest. Pure.
Metadata make_metadata(const BuildToml& project, const VariantPlan& plan,
                       const PackageFacts& facts);

/// Fills the empty folder `target` with the variant: Python files of the project, generated
/// _ops.py, `binary` (ignored for noarch), metadata.json with digest; all times set to
/// `facts.time`. Throws kUnsafePath for files that a package may not hold, kIo, kDiskFull.
void write_package(const BuildToml& project, const VariantPlan& plan, const PackageFacts& facts,
                   const std::filesystem::path& binary, const std::filesystem::path& target);

/// Puts the finished folder `from` at `to` in one step; a former `to` is exchanged and removed.
void publish_directory(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace kernelhub::builder
