// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/config.h"
#include "kernelhub/core/export.h"
#include "kernelhub/core/system_info.h"

namespace kernelhub {

/// Facts of this process and machine (loader spec 11): probed lazily, without loading torch,
/// creating a CUDA context or calling CUDA hooks. Cached, but torch is probed again once it is
/// mapped. Thread-safe.
KERNELHUB_API const SystemInfo& system();
/// The same probe with explicit settings (`torch_prefix`, `torch_version`), not cached; for tools
/// that resolve for a torch that is on disk and not in the process. Throws kInvalidConfig.
KERNELHUB_API SystemInfo probe_system(const Config& config);

}  // namespace kernelhub
