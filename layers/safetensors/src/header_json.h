// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/safetensors.h"

#include <c10/core/ScalarType.h>

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::layers {

/// A dtype of the format and how torch names it.
struct SafetensorsDtype {
  std::string_view name;
  int bits;
  c10::ScalarType scalar;
};
/// Nothing for an unknown name.
const SafetensorsDtype* find_dtype(std::string_view name) noexcept;

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // by (begin, end)
  std::map<std::string, std::string> metadata;
  std::uint64_t data_begin = 0;  // bytes from the start of the file
};

/// All checks of the verdict table; `file` is the whole file.
SafetensorsHeader parse_header(std::string_view file, const std::filesystem::path& path,
                               const SafetensorsOptions& options);

}  // namespace kernelhub::layers
