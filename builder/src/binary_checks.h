// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/builder/check.h"
#include "kernelhub/core/metadata.h"
#include "kernelhub/core/variant.h"
#include "kernelhub/loader/preflight.h"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace kernelhub::builder {

/// One ELF file of a variant with what its directory claims.
struct CheckedBinary {
  std::string file;  // relative to the variant
  std::filesystem::path path;
  const loader::ElfFacts& facts;
  const Variant& variant;
  const Metadata& metadata;
};

/// All checks of package spec 7 on one binary, appended to `findings`.
void check_binary(const CheckedBinary& binary, const CheckOptions& options,
                  std::vector<CheckFinding>& findings);

}  // namespace kernelhub::builder
