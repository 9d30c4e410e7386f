// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "source_tree.h"

#include "kernelhub/builder/build_plan.h"
#include "kernelhub/builder/build_toml.h"
#include "kernelhub/builder/compile.h"
#include "kernelhub/builder/toolchain.h"

#include <filesystem>
#include <string>
#include <vector>

namespace kernelhub::builder {

/// Objects of one component. `isa_level` 0 is code for every machine; higher ones need more.
struct ObjectGroup {
  std::string name;
  int isa_level = 0;
  std::vector<std::string> objects;  // relative to the stage
};

/// All compiler calls of one variant, and what its link line needs.
struct CompileCommands {
  std::vector<CompileJob> jobs;
  std::vector<ObjectGroup> groups;     // bindings first, then ascending ISA level
  std::vector<std::string> libraries;  // -l flags found in cxx-flags
  bool openmp = false;
};

/// Level of the instruction set that a component's flags ask for: 0 baseline, 1 AVX or AVX2,
/// 2 AVX-512, 3 AMX.
int isa_level(const std::vector<std::string>& flags);

struct CommandOptions {
  int parallelism = 1;        // nvcc's own threads
  bool with_bindings = true;  // false: components only
};

/// Pure. The sources lie in `stage`/src, generated files in `stage`/gen. `stage` is used for the
/// prefix map only; every path on a command line that can be is relative to it.
/// Throws kToolchainMissing for a dependency without a folder.
CompileCommands compile_commands(const BuildToml& project, const VariantPlan& plan,
                                 const Toolchain& tools, const SourceTree& sources,
                                 const std::filesystem::path& stage, const CommandOptions& options);

}  // namespace kernelhub::builder
