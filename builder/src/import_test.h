// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/builder/build_plan.h"
#include "kernelhub/builder/toolchain.h"

#include <filesystem>

namespace kernelhub::builder {

/// Loads the variant in `directory` in child processes: first the binary alone with every symbol
/// bound and no Python, then the package as a Python client imports it when `tools.python` has the
/// framework. `log` is a file for their output. Throws BuildError kImportTestFailed with it.
void import_test(const VariantPlan& plan, const Toolchain& tools,
                 const std::filesystem::path& directory, const std::filesystem::path& log);

}  // namespace kernelhub::builder
