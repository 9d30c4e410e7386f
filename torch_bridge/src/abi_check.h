// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace kernelhub::loader {

/// Versions as torch packs them. Throws kTorchMismatch unless major and minor are equal.
void require_same_torch(std::uint64_t running, std::uint64_t compiled);
/// The running torch against the one whose headers this library was compiled with; uses no symbol
/// of torch but one plain C function (loader spec L3).
void require_compiled_torch();

}  // namespace kernelhub::loader
