// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/progress.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace demo {

/// One line that is rewritten while one waits; silent where stdout is no terminal.
class ProgressLine {
 public:
  ProgressLine();
  void show(const std::string& text);
  void clear();

 private:
  bool is_terminal_;
};

/// Bytes of the running downloads on a ProgressLine.
class DownloadProgress : public kernelhub::ProgressObserver {
 public:
  void started(std::string_view what, std::uint64_t total_bytes) noexcept override;
  void advanced(std::string_view what, std::uint64_t done_bytes) noexcept override;
  void finished(std::string_view what) noexcept override;
  /// Bytes of all finished files.
  std::uint64_t downloaded_bytes() const noexcept { return finished_bytes_; }

 private:
  ProgressLine line_;
  std::map<std::string, std::uint64_t, std::less<>> total_bytes_;
  std::uint64_t finished_bytes_ = 0;
};

}  // namespace demo
