// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/metadata.h"
#include "kernelhub/core/system_info.h"

#include <string>

namespace kernelhub {

/// What the package asks of this client: kernels-minver, kernel-depends. `source` names the package
/// in errors. Throws kClientTooOld, kDependencyUnsupported.
void check_dependencies(const Metadata& metadata, const std::string& source);
/// Package spec 2.5: passes without archs, without a visible device, or when any entry matches.
/// Throws kArchMismatch.
void check_arch(const Metadata& metadata, const SystemInfo& system, const std::string& source);

}  // namespace kernelhub
