// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/backend.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::builder {

/// One CUDA compute capability as written in build.toml: "9.0", "9.0a", "12.1+PTX".
struct CudaArch {
  MajorMinor capability;
  char suffix = 0;  // 0, 'a' (this chip only) or 'f' (its family)
  bool ptx = false;

  static std::optional<CudaArch> parse(std::string_view text);
  std::string str() const;
  /// "90a": the digits of compute_XX and sm_XX.
  std::string digits() const;
  friend bool operator==(const CudaArch& a, const CudaArch& b) {
    return a.capability == b.capability && a.suffix == b.suffix && a.ptx == b.ptx;
  }
};

/// Capabilities a toolkit builds by default, ascending (package spec 6.3).
std::vector<CudaArch> supported_cuda_archs(MajorMinor toolkit);

/// Capabilities to compile for: `wanted` (a component's cuda-capabilities, empty: all) matched with
/// the toolkit's list. Entries that do not parse are ignored. Ascending and unique; empty when
/// nothing matches.
std::vector<CudaArch> select_cuda_archs(MajorMinor toolkit, const std::vector<std::string>& wanted);

}  // namespace kernelhub::builder
