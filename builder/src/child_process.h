// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kernelhub::builder {

struct ProcessResult {
  int exit_code = 0;   // 128 + signal when a signal ended it
  std::string output;  // stdout and stderr in order of arrival
};

/// First executable of this name on PATH, empty when there is none.
std::filesystem::path find_program(const std::string& name);

/// Runs a program, a path or a name on PATH, to its end without a shell. `log` receives its output
/// and is read back; its folder must exist. `environment` adds to the inherited one. Throws
/// kToolchainMissing when the program cannot be started. Thread-safe for different logs.
ProcessResult run_process(const std::vector<std::string>& arguments,
                          const std::filesystem::path& working_directory,
                          const std::filesystem::path& log,
                          const std::vector<std::pair<std::string, std::string>>& environment = {});

/// run_process() with a private temporary log, from the current directory.
ProcessResult run_process(const std::vector<std::string>& arguments);

}  // namespace kernelhub::builder
