// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/backend.h"
#include "kernelhub/core/digest.h"
#include "kernelhub/core/export.h"
#include "kernelhub/core/repo.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub {

/// Digest of a variant directory: relative path -> raw hash of the file (package spec 3.1).
struct VariantDigest {
  DigestAlgorithm algorithm = DigestAlgorithm::kSha256;
  std::map<std::string, Digest> files;  // byte order of the path
};

struct GitProvenance {
  std::string commit;  // 40 or 64 hex
  bool dirty = false;
};

/// Our own part of metadata.json, ignored by the peer client (package spec 3, key `kernelhub`).
struct KernelhubMetadata {
  std::int64_t schema = 1;
  std::string repo_id;  // empty when absent
  std::string variant;
  std::string source_hash;
  std::map<std::string, std::string> toolchain;  // tool -> version
  std::string layers_json;                       // object text of python spec 6.3, "" if absent
};

/// metadata.json of one variant (package spec 3).
struct KERNELHUB_API Metadata {
  std::string name;
  std::string id;
  std::int64_t version = 0;
  std::optional<std::string> kernels_minver;
  std::string license;
  std::optional<std::string> upstream;
  std::optional<std::string> source;
  std::vector<std::string> python_depends;
  struct Dependency {
    RepoId repo;
    KernelSpec spec;
  };
  std::vector<Dependency> kernel_depends;
  BackendKind backend = BackendKind::kCpu;
  std::vector<std::string> archs;
  std::optional<VariantDigest> digest;
  std::optional<std::string> builder_version;  // provenance.kernel-builder.version
  std::optional<GitProvenance> builder_provenance;
  std::optional<GitProvenance> kernel_provenance;
  std::optional<KernelhubMetadata> kernelhub;

  /// Strict parse of the bytes of a metadata.json; unknown keys are ignored, duplicate keys and
  /// bytes after the object are errors. `origin` names the file in errors.
  /// Throws kInvalidMetadata with the JSON path of the field, or kInvalidJson.
  static Metadata parse(std::string_view bytes, std::string_view origin);
  /// Canonical bytes (two-space indent, fixed key order, no trailing newline), equal to the peer's
  /// own rewriting.
  std::string to_json() const;
  bool dirty() const noexcept {
    return (builder_provenance && builder_provenance->dirty) ||
           (kernel_provenance && kernel_provenance->dirty);
  }
};

/// `^[a-z][-a-z0-9]*[a-z0-9]$`.
KERNELHUB_API bool is_kernel_name(std::string_view name) noexcept;
/// `[A-Za-z_][A-Za-z0-9_]{0,127}`.
KERNELHUB_API bool is_package_id(std::string_view id) noexcept;
/// Name with '-' replaced by '_'.
KERNELHUB_API std::string python_name(std::string_view kernel_name);

}  // namespace kernelhub
