// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "trust_evidence.h"

#include "kernelhub/trust/verifier.h"

#include <filesystem>
#include <string>
#include <vector>

namespace kernelhub {

/// Variant directories that a local path stands for (package spec 1.1): directly under it, under
/// path/build, or the path itself when it has metadata.json.
struct LocalVariants {
  std::filesystem::path parent;  // folder of the variant directories
  std::vector<std::string> names;
};
LocalVariants find_local_variants(const std::filesystem::path& path);

struct VerifiedLocal {
  VariantChoice choice;
  trust::VerifiedPackage package;
};

/// Steps 3-10 of the pipeline for a directory that the caller, or LOCAL_KERNELS for `override_of`,
/// names.
VerifiedLocal verify_local(const std::filesystem::path& path, const LoadOptions& options,
                           const SystemInfo& system, NoarchRule noarch, TrustContext& trust,
                           const std::optional<RepoId>& override_of);

}  // namespace kernelhub
