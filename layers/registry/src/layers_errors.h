// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/error.h"
#include "kernelhub/layers/mode.h"

#include <string>
#include <string_view>

/// One factory per failure of the registry; each takes facts.
namespace kernelhub::layers::layers_errors {

LayerError modes_exclude(Mode a, Mode b);
LayerError unknown_mode(std::string_view name);
LayerError mode_not_runnable(Mode mode);
LayerError unknown_device_type(std::string_view type);
LayerError device_without_capability(std::string_view type);
LayerError bad_capability_range(std::string_view type, int min, int max);
LayerError duplicate_entry(std::string_view layer, std::string_view device);

}  // namespace kernelhub::layers::layers_errors
