// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/backend.h"
#include "kernelhub/core/metadata.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace kernelhub::builder {

/// One result of `kernelhub check` (package spec 7).
struct CheckFinding {
  enum class Severity : std::uint8_t { kWarning, kError };
  Severity severity = Severity::kError;
  std::string file;    // relative to the checked directory
  std::string check;   // "manylinux", "python-abi", "torch-stable-abi", "variant", ...
  std::string symbol;  // symbol, library or field it is about; may be empty
  std::string found;
  std::string allowed;
  /// "_x.abi3.so: manylinux: exp: found GLIBC_2.29, allowed up to GLIBC_2.28"
  std::string str() const;
};

struct CheckOptions {
  std::string manylinux = "manylinux_2_28";
  MajorMinor python_abi{3, 9};
  /// Stable torch ABI to hold the binary to; unset: what the variant's name says.
  std::optional<MajorMinor> torch_stable_abi;
  /// Variant name to hold the directory to; unset: the directory's own name.
  std::optional<std::string> variant;
  /// Warnings become errors.
  bool strict = false;
};

/// Checks one variant directory: metadata and digest, then every ELF file in it (found by magic,
/// not by extension) by reading PT_DYNAMIC only. Findings are data; throws BuildError
/// kPackageInvalid when the directory is no variant, kIo when a file cannot be read. No network.
std::vector<CheckFinding> check_variant(const std::filesystem::path& directory,
                                        const CheckOptions& options = {});

/// Variant directories below `directory`: in result/, then build/, then the directory's own
/// sub-directories, then the directory itself; the first place that holds one counts. Sorted by
/// name. Throws BuildError kPackageInvalid when there is none.
std::vector<std::filesystem::path> find_variants(const std::filesystem::path& directory);

/// metadata.json of a variant directory. Throws BuildError kPackageInvalid when it has none,
/// kInvalidMetadata.
Metadata read_metadata(const std::filesystem::path& variant_directory);

/// Throws BuildError kStaleDigest when files differ from the recorded digest, else kCheckFailed
/// when check_variant() has error findings.
void require_clean(const std::filesystem::path& directory, const CheckOptions& options = {});

bool has_errors(const std::vector<CheckFinding>& findings) noexcept;

}  // namespace kernelhub::builder
