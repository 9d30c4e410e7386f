// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"

#include <string_view>

namespace kernelhub::loader {

/// Address of a symbol of a library that is mapped already; null when one of them is absent. Maps
/// nothing.
KERNELHUB_API void* mapped_symbol(std::string_view soname, const char* name) noexcept;

}  // namespace kernelhub::loader
