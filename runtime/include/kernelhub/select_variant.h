// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/core/system_info.h"
#include "kernelhub/core/variant.h"

#include <optional>
#include <string>
#include <vector>

namespace kernelhub {

/// Acceptance and preference of package spec 2.3-2.4.
struct VariantChoice {
  std::optional<std::string> chosen;
  /// Accepted first, best first; then rejected ones in the same order. Invalid names are left out.
  std::vector<VariantDecision> decisions;
};

/// Pure. `backend`: the one to match (the detected one or cpu). `python_available`: noarch variants
/// may be accepted; C++ rejects them as python-only (loader spec F4).
enum class NoarchRule { kAccept, kRejectPythonOnly };
KERNELHUB_API VariantChoice select_variant(const std::vector<std::string>& names,
                                           const SystemInfo& system, const Backend& backend,
                                           NoarchRule noarch);

}  // namespace kernelhub
