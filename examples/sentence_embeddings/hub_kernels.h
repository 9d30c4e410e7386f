// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "results.h"

#include "kernelhub/layers/kernel_mapping.h"

#include <cstdint>
#include <string>
#include <vector>

namespace demo {

/// Packages that the program asks the hub for.
struct HubPackages {
  std::string activation = "kernels-community/activation";
  std::int64_t activation_version = 1;
  /// Lives beside the other version in this process; has one op more.
  std::int64_t activation_next_version = 2;
  std::string extra_op = "squared_relu";
  std::string layer_norm = "kernels-community/layer-norm";
  std::int64_t layer_norm_version = 1;
};

/// Loads both versions of activation and layer-norm for backend cpu, prints why each variant was
/// chosen or not, and calls gelu_fast of both versions by turns.
std::vector<LoadedPackage> load_and_compare(const HubPackages& packages);

/// GeLU and LayerNorm for inference on the cpu.
kernelhub::KernelMapping mapping_of(const HubPackages& packages);

}  // namespace demo
