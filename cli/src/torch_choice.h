// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/config.h"
#include "kernelhub/core/system_info.h"

#include <filesystem>
#include <string>

namespace kernelhub::cli {

/// Facts to resolve variants for. The program itself has no torch, so they are those of a torch on
/// disk: `torch` (--torch, a folder or a version like 2.11+cu130), KERNELHUB_TORCH or
/// KERNELHUB_TORCH_VERSION in `config`, else the one beside this program or beside the python3 on
/// PATH. Reads torch's version.py only; starts no process.
SystemInfo system_for(Config config, const std::string& torch);

}  // namespace kernelhub::cli
