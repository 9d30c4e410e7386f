// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/backend.h"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace kernelhub::loader {

/// x86-64-v<level> of this CPU, 1 to 4; 0 on other CPUs.
int x86_level() noexcept;
/// "x86_64", "aarch64".
std::string cpu_name();

/// A torch, in the process or on disk.
struct TorchFacts {
  std::optional<MajorMinor> version;
  Backend backend;
  std::optional<bool> cxx11_abi;
  std::string library_dir;
};
/// major.minor of the mapped torch, by its own C function.
std::optional<MajorMinor> mapped_torch_version();
/// The mapped torch, or nothing. Calls no hook and no initialisation of it (loader spec L5).
std::optional<TorchFacts> probe_mapped_torch();
/// The torch folder of an installed wheel. Throws kInvalidConfig when there is none.
TorchFacts probe_torch_prefix(const std::filesystem::path& prefix);
/// "2.11+cu130", "2.11". Throws kInvalidConfig.
TorchFacts parse_torch_version(const std::string& text);

/// Driver version by libcuda.so.1; nothing without a driver. Creates no context.
std::optional<MajorMinor> cuda_driver_version();
/// Compute capability of each visible device; empty without a driver.
std::vector<MajorMinor> cuda_devices();
/// Version of the CUDA run time that is mapped, else of the one in the system's folders.
std::optional<MajorMinor> cuda_runtime_version();

}  // namespace kernelhub::loader
