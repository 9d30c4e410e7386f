// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/builder/build_toml.h"
#include "kernelhub/builder/toolchain.h"

#include <filesystem>

namespace kernelhub::builder {

/// Renders CARD.md, a Jinja template, to build/CARD.md, which an upload puts on `main` as
/// README.md. Variables: repo_id, version, functions, layers, has_benchmark, upstream, source,
/// license. Nothing happens without a CARD.md. False when it cannot be rendered because no Python
/// with jinja2 is there. Throws kToolchainMissing with the template engine's message when the
/// template is wrong, kIo.
bool write_card(const BuildToml& project, const Toolchain& tools);

}  // namespace kernelhub::builder
