// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "hub_kernels.h"

#include <cstdint>
#include <filesystem>
#include <optional>

namespace demo {

struct Arguments {
  std::filesystem::path model;    // folder of fetch_model.py
  std::filesystem::path inputs;   // folder of prepare.py
  std::filesystem::path results;  // results.json to write
  HubPackages packages;
  std::int64_t batch_size = 16;
  int threads = 0;  // 0: torch's default
  int rounds = 5;
};

/// Nothing when the process should end with `exit_status` (help, or a mistake on the command line).
std::optional<Arguments> parse_arguments(int argc, char** argv, int& exit_status);

}  // namespace demo
