// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "temp_directory.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/metadata.h"
#include "kernelhub/trust/verifier.h"

#include <filesystem>
#include <string>

namespace kernelhub {

/// Metadata of a noarch CPU package "relu" without a digest.
inline Metadata small_metadata() {
  Metadata metadata;
  metadata.name = "relu";
  metadata.id = "_relu_cpu_1a2b3c4";
  metadata.version = 1;
  metadata.license = "MIT";
  return metadata;
}

/// Writes three source files and a metadata.json with their digest into `name` below `directory`.
inline Metadata write_small_package(const TempDirectory& directory, const std::string& name,
                                    DigestAlgorithm algorithm = DigestAlgorithm::kSha256) {
  directory.write(name + "/__init__.py", "from ._ops import ops\n");
  directory.write(name + "/_ops.py", "");
  directory.write(name + "/layers/__init__.py", "class A: pass\n");
  Metadata metadata = small_metadata();
  metadata.digest = trust::compute_variant_digest(directory / name, algorithm);
  directory.write(name + "/metadata.json", metadata.to_json());
  return metadata;
}

}  // namespace kernelhub
