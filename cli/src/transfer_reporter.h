// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/config.h"
#include "kernelhub/core/progress.h"

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace kernelhub::cli {

/// Transfers as one updating line on stderr; silent unless stderr is a terminal or the environment
/// forces progress on. The line is gone when all work has finished.
class TransferReporter : public ProgressObserver {
 public:
  explicit TransferReporter(const Config& config);
  void started(std::string_view what, std::uint64_t total_bytes) noexcept override;
  void advanced(std::string_view what, std::uint64_t done_bytes) noexcept override;
  void finished(std::string_view what) noexcept override;

 private:
  struct Item {
    std::uint64_t total_bytes = 0;
    std::uint64_t done_bytes = 0;
  };
  void draw(bool now);

  bool visible_;
  std::mutex mutex_;
  std::map<std::string, Item, std::less<>> items_;
  std::size_t running_ = 0;
  std::chrono::steady_clock::time_point drawn_{};
};

}  // namespace kernelhub::cli
