// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "compile_commands.h"

#include "kernelhub/builder/build_plan.h"
#include "kernelhub/builder/toolchain.h"

#include <filesystem>

namespace kernelhub::builder {

/// Makes `stage`/out/<binary> from the objects of `commands`. Objects that need an instruction set
/// are first joined per component with their weak functions made local, so that code for newer
/// machines never stands in for a shared inline function. Throws BuildError kCompileFailed with the
/// linker's output.
void link_variant(const VariantPlan& plan, const Toolchain& tools, const CompileCommands& commands,
                  const std::filesystem::path& stage);

}  // namespace kernelhub::builder
