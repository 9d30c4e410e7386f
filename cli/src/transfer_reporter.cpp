// SPDX-License-Identifier: Apache-2.0
#include "transfer_reporter.h"

#include <fmt/format.h>

#include <cstdio>
#include <unistd.h>

namespace kernelhub::cli {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(100);
constexpr double kMebibyte = 1024.0 * 1024.0;

}  // namespace

TransferReporter::TransferReporter(const Config& config)
    : visible_(config.progress_bars.value_or(isatty(STDERR_FILENO) != 0)) {}

void TransferReporter::started(std::string_view what, std::uint64_t total_bytes) noexcept {
  const std::lock_guard lock(mutex_);
  items_[std::string(what)] = {total_bytes, 0};
  ++running_;
  draw(true);
}

void TransferReporter::advanced(std::string_view what, std::uint64_t done_bytes) noexcept {
  const std::lock_guard lock(mutex_);
  if (const auto item = items_.find(what); item != items_.end()) {
    item->second.done_bytes = done_bytes;
  }
  draw(false);
}

void TransferReporter::finished(std::string_view what) noexcept {
  const std::lock_guard lock(mutex_);
  if (const auto item = items_.find(what); item != items_.end()) {
    item->second.done_bytes = item->second.total_bytes;
  }
  if (running_ > 0) --running_;
  draw(true);
}

void TransferReporter::draw(bool now) {
  const auto time = std::chrono::steady_clock::now();
  if (!visible_ || (!now && time - drawn_ < kInterval)) return;
  drawn_ = time;
  Item sum;
  for (const auto& [what, item] : items_) {
    sum.total_bytes += item.total_bytes;
    sum.done_bytes += item.done_bytes;
  }
  const std::string line =
      running_ == 0 ? std::string()
                    : fmt::format("fetching {} file(s): {:.1f} of {:.1f} MiB", items_.size(),
                                  static_cast<double>(sum.done_bytes) / kMebibyte,
                                  static_cast<double>(sum.total_bytes) / kMebibyte);
  // Carriage return, text, erase to the end of the line.
  std::fprintf(stderr, "\r%s\033[K", line.c_str());
  std::fflush(stderr);
}

}  // namespace kernelhub::cli
