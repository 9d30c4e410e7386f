// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/layers/layer_binding.h"
#include "kernelhub/layers/layer_repository.h"
#include "kernelhub/loader/kernel.h"

#include <exception>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::layers {

/// One loaded package with the layers it describes.
struct LoadedLayers {
  Kernel kernel;
  std::string source;  // "org/name@v1 <variant>"
  std::string commit;  // empty for local packages
  std::map<std::string, LayerBinding> bindings;
};

/// The layers of a repository, or the exception that prevented loading it.
struct PackageResult {
  std::optional<LoadedLayers> layers;
  std::exception_ptr failure;
};

/// Key under which a repository is loaded once: package, backend and trust.
std::string package_key(const LayerRepository& repository);

/// Loads each distinct package of `repositories` once, packages in parallel. Blocks on network,
/// disk and dlopen; failures are kept per package.
std::map<std::string, PackageResult> load_packages(const std::vector<LayerRepository>& repositories,
                                                   std::string_view device_type);

}  // namespace kernelhub::layers
