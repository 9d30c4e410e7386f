// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "commands.h"

#include <variant>

namespace kernelhub::cli {

/// The command to run, or the exit code after help, version or a usage message was printed.
std::variant<Command, int> parse_args(int argc, const char* const* argv);

}  // namespace kernelhub::cli
