// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/builder/build_toml.h"

#include <filesystem>
#include <string>
#include <vector>

namespace kernelhub::builder {

/// The files a build may see, and their hash.
struct SourceTree {
  struct File {
    std::string path;  // below `root`, '/' separated
    std::filesystem::path absolute;
    std::string sha256;      // hex of the content
    bool in_project = true;  // below the project's own folder
  };
  std::filesystem::path root;  // deepest folder above the project and every listed file
  std::string project;         // project's folder below `root`, "" when they are the same
  std::vector<File> files;     // byte order of `path`
  std::string source_hash;     // hex SHA-256 over (path, hash) and the templates' version

  /// `relative` to the project's folder, as a path below `root`.
  std::string project_path(const std::string& relative) const;
  bool has(const std::string& path_below_root) const;
};

/// Lists and hashes build.toml, every `src` entry, and the files of torch-ext/ and tvm-ffi-ext/
/// with a packaged extension. `work_tree`: the enclosing git work tree, empty without git.
/// Throws kBuildTomlInvalid for a missing file and kUnsafePath for one outside the work tree (the
/// project's parent folder without git), a link to a folder or a special file.
SourceTree collect_sources(const BuildToml& project, const std::filesystem::path& work_tree);

/// Quoted includes of the listed files that name an existing project file which is not listed; the
/// staged build would not find it.
std::vector<Diagnostic> lint_includes(const BuildToml& project, const SourceTree& sources);

}  // namespace kernelhub::builder
