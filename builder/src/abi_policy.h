// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/backend.h"

#include <optional>
#include <string>
#include <string_view>

/// What binaries may need of their platform, from the data files in builder/data.
namespace kernelhub::builder {

/// Symbol version against a manylinux policy.
struct VersionVerdict {
  bool allowed = true;
  std::string newest_allowed;  // "GLIBC_2.28", when not allowed
};
/// `needed`: "GLIBC_2.34". Namespaces outside the policy are allowed. Throws kInvalidArgument for
/// an unknown policy or CPU.
VersionVerdict manylinux_verdict(std::string_view policy, std::string_view cpu,
                                 std::string_view needed);

/// Python version that put `symbol` into the stable ABI; nothing when it is not in it.
std::optional<MajorMinor> python_abi_added(std::string_view symbol);

/// Torch version that put the C function into the shim: 0.0 before versions were recorded, nothing
/// when newest_shim_version() does not have it.
std::optional<MajorMinor> torch_shim_added(std::string_view function);
MajorMinor newest_shim_version();

}  // namespace kernelhub::builder
