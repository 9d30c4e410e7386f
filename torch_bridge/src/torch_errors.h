// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/error.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// Every error text of torch_bridge, made from facts.
namespace kernelhub::torch_errors {

/// Versions as torch packs them: major << 56 | minor << 48 | patch << 40.
LoadError torch_mismatch(std::uint64_t running, std::uint64_t compiled);
LoadError op_not_found(std::string_view package, std::string_view name,
                       const std::vector<std::string>& near, bool is_torch_package);
LoadError schema_mismatch(std::string_view op, std::string_view wanted, std::string_view actual,
                          std::string_view difference);
LoadError bad_tensor(std::size_t argument, std::string_view found);

}  // namespace kernelhub::torch_errors
