// SPDX-License-Identifier: Apache-2.0
#include "build_reporter.h"

#include <cstdio>
#include <unistd.h>

namespace kernelhub::cli {

BuildReporter::BuildReporter() : terminal_(isatty(STDERR_FILENO) != 0) {}

void BuildReporter::draw() {
  if (!terminal_) return;
  const std::string what = running_.empty() ? "" : running_.begin()->first;
  const std::string more =
      running_.size() > 1 ? " and " + std::to_string(running_.size() - 1) + " more" : "";
  std::fprintf(stderr, "\r\033[K%s%s", what.substr(0, 70).c_str(), more.c_str());
  std::fflush(stderr);
}

void BuildReporter::started(std::string_view what, std::uint64_t) noexcept {
  running_[std::string(what)] = std::chrono::steady_clock::now();
  draw();
}

void BuildReporter::advanced(std::string_view, std::uint64_t) noexcept {}

void BuildReporter::finished(std::string_view what) noexcept {
  const auto step = running_.find(what);
  if (step == running_.end()) return;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - step->second;
  std::fprintf(stderr, "%s%6.1f s  %s\n", terminal_ ? "\r\033[K" : "", seconds.count(),
               step->first.c_str());
  running_.erase(step);
  draw();
}

}  // namespace kernelhub::cli
