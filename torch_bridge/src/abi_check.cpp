// SPDX-License-Identifier: Apache-2.0
#include "abi_check.h"

#include "torch_errors.h"

#include <torch/headeronly/version.h>

extern "C" std::uint64_t aoti_torch_abi_version();

namespace kernelhub::loader {

void require_same_torch(std::uint64_t running, std::uint64_t compiled) {
  constexpr int kMinorShift = 48;
  if (running >> kMinorShift != compiled >> kMinorShift) {
    throw torch_errors::torch_mismatch(running, compiled);
  }
}

void require_compiled_torch() { require_same_torch(aoti_torch_abi_version(), TORCH_ABI_VERSION); }

}  // namespace kernelhub::loader
