// SPDX-License-Identifier: Apache-2.0
#include "terminal.h"

#include <fmt/format.h>

#include <cstdio>
#include <unistd.h>

namespace demo {

ProgressLine::ProgressLine() : is_terminal_(::isatty(STDOUT_FILENO) == 1) {}

void ProgressLine::show(const std::string& text) {
  if (!is_terminal_) return;
  fmt::print("\r\033[K  {}", text);
  std::fflush(stdout);
}

void ProgressLine::clear() {
  if (!is_terminal_) return;
  fmt::print("\r\033[K");
  std::fflush(stdout);
}

void DownloadProgress::started(std::string_view what, std::uint64_t total_bytes) noexcept {
  total_bytes_[std::string(what)] = total_bytes;
  line_.show(fmt::format("downloading {} ({} KiB)", what, total_bytes / 1024));
}

void DownloadProgress::advanced(std::string_view what, std::uint64_t done_bytes) noexcept {
  const auto total = total_bytes_.find(what);
  if (total == total_bytes_.end()) return;
  line_.show(
      fmt::format("downloading {} {}/{} KiB", what, done_bytes / 1024, total->second / 1024));
}

void DownloadProgress::finished(std::string_view what) noexcept {
  const auto total = total_bytes_.find(what);
  if (total == total_bytes_.end()) return;
  finished_bytes_ += total->second;
  total_bytes_.erase(total);
  line_.clear();
}

}  // namespace demo
