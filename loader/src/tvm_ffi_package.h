// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "loaded_package.h"

#include "kernelhub/loader/preflight.h"

namespace kernelhub::loader {

/// Finds the functions of a mapped tvm-ffi package, and checks and attaches its descriptor when it
/// has one. Throws kNoOpsRegistered, kMetadataMismatch, kKernelFailed (attach refused).
void register_tvm_ffi_functions(LoadedPackage& package, const ElfFacts& facts);

}  // namespace kernelhub::loader
