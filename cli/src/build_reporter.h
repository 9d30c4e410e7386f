// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/progress.h"

#include <chrono>
#include <map>
#include <string>

namespace kernelhub::cli {

/// Shows a build on stderr: a line per finished step with its time and, on a terminal, the step
/// that is running.
class BuildReporter : public ProgressObserver {
 public:
  BuildReporter();
  void started(std::string_view what, std::uint64_t total_bytes) noexcept override;
  void advanced(std::string_view what, std::uint64_t done_bytes) noexcept override;
  void finished(std::string_view what) noexcept override;

 private:
  void draw();

  bool terminal_;
  std::map<std::string, std::chrono::steady_clock::time_point, std::less<>> running_;
};

}  // namespace kernelhub::cli
