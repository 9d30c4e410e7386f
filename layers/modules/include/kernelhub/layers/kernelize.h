// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/layers/mode.h"

#include <optional>
#include <string>
#include <vector>

namespace torch::nn {
class Module;
}

/// Swaps the forwards of a model's marked layers for kernels from packages, and back.
///
///   kernelhub::register_kernel_mapping(kernelhub::default_kernel_mapping());
///   for (const auto& layer : kernelhub::kernelize(*model, kernelhub::Mode::kInference)) { ... }
namespace kernelhub {

/// What happened to one marked layer.
struct LayerOutcome {
  std::string path;        // in the model, "encoder.layer.0.output.LayerNorm"
  std::string layer_name;  // name in the mapping
  std::string source;      // package, "org/name@v1 torch-stable-abi210-cpu-..."; empty: none
  std::string commit;      // of the package; empty for local ones
  std::string reason;      // why it was not swapped
  bool swapped = false;
};

/// Looks each marked layer up in the kernel mapping, loads each package once (in parallel), checks
/// every binding against op and module, and only then fills the slots: an exception leaves the
/// model as it was. A layer without a kernel gets its own forward back, so calling again with
/// another mode or mapping switches. `device`: a type of the mapping vocabulary; unset: that of the
/// first parameter. For device type cpu a repository without a backend is loaded for backend cpu
/// first, then for the detected one. Settings of the hub come from the environment. Must not run
/// while another thread uses the model. Blocks on network, disk and dlopen. Throws LayerError
/// kInvalidMode, kInvalidArgument (device), kMissingAttribute, kLayerSignatureMismatch,
/// kInvalidBinding, kNoCompatibleMode (an entry promises what its layer lacks), and, where
/// `fallback` does not cover it, kNoLayerMapping, kNoDeviceMapping, kNoCompatibleProperties,
/// kNoCompatibleMode, kNoNativeLayer; kOpNotFound; every error of get_kernel.
KERNELHUB_API std::vector<LayerOutcome> kernelize(
    torch::nn::Module& model, Mode mode, const std::optional<std::string>& device = {},
    KernelizeFallback fallback = KernelizeFallback::kDefault);

/// Gives every layer its own forward back and lets go of the packages.
KERNELHUB_API void unkernelize(torch::nn::Module& model);

}  // namespace kernelhub
