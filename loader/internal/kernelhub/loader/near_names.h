// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/loader/package.h"

#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::loader {

/// Names of ops that a misspelt name may have meant, best first, at most 3: by edit distance, and
/// names that begin or end alike.
KERNELHUB_API std::vector<std::string> near_names(std::string_view name,
                                                  const std::vector<OpInfo>& ops);

}  // namespace kernelhub::loader
