// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/backend.h"
#include "kernelhub/core/metadata.h"
#include "kernelhub/core/repo.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// From a project with a build.toml to checked variant directories.
namespace kernelhub::builder {

/// One remark about a build.toml.
struct Diagnostic {
  enum class Severity : std::uint8_t { kWarning, kError };
  Severity severity = Severity::kError;
  std::string file;
  int line = 0;  // 1-based; 0 when the key is absent
  std::string key;
  std::string message;
  /// "build.toml:3: general.name: ..."
  std::string str() const;
};

/// Inclusive range; an absent end is open.
struct VersionRange {
  std::optional<MajorMinor> min;
  std::optional<MajorMinor> max;
  bool contains(MajorMinor version) const {
    return !(min && version < *min) && !(max && *max < version);
  }
  /// ">= 2.9", "<= 2.11", "2.9 to 2.11" or "any".
  std::string str() const;
};

struct TorchSection {
  std::vector<std::string> src, include, cxx_flags;
  std::vector<std::string> pyext{"py", "pyi"};
  VersionRange versions;
  /// Backends built against the stable ABI, with the ABI version.
  std::map<BackendKind, MajorMinor> stable_abi;
};

struct TvmFfiSection {
  std::vector<std::string> src, include, cxx_flags;
  std::vector<std::string> pyext{"py", "pyi"};
};

struct NoarchSection {
  std::vector<std::string> pyext{"py", "pyi"};
  std::vector<std::string> cuda_capabilities, rocm_archs;
};

/// One [kernel.<name>] table: a set of sources compiled with the same flags.
struct Component {
  std::string name;
  BackendKind backend = BackendKind::kCpu;
  std::vector<std::string> depends, src, include, cxx_flags, cuda_flags;
  std::vector<std::string> cuda_capabilities;  // empty: every one the toolkit supports
  std::optional<MajorMinor> cuda_minver;
  bool depends_on(std::string_view dependency) const;
};

/// A build.toml of edition 5 (edition 4 is upgraded while reading).
struct BuildToml {
  std::filesystem::path directory;  // folder of the file, absolute
  std::string name;
  std::int64_t version = 0;
  std::string license;
  std::vector<BackendKind> backends;
  std::optional<std::string> upstream, source;
  std::vector<std::string> python_depends;
  std::map<BackendKind, std::vector<std::string>> backend_python_depends;
  std::vector<Metadata::Dependency> kernel_depends;
  std::map<BackendKind, std::vector<Metadata::Dependency>> backend_kernel_depends;
  std::optional<RepoId> hub_repo;
  std::optional<std::string> hub_branch;
  VersionRange cuda_toolkits;
  std::optional<TorchSection> torch;
  std::optional<NoarchSection> noarch;
  std::optional<TvmFfiSection> tvm_ffi;
  std::vector<Component> components;  // by name
  /// JSON object of the [layers.<Name>] tables, "" when there are none.
  std::string layers_json;
};

struct ParsedBuildToml {
  BuildToml project;
  std::vector<Diagnostic> warnings;
};

/// Parses `directory`/build.toml. One run reports everything that is wrong: throws BuildError
/// kBuildTomlInvalid with all findings in details(), kUnsupportedEdition for editions 1 to 3 and
/// unknown ones, kInvalidToml for a file that is not TOML, kIo when it cannot be read.
ParsedBuildToml read_build_toml(const std::filesystem::path& directory);

}  // namespace kernelhub::builder
