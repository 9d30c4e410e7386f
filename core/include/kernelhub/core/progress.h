// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace kernelhub {

/// Observer of long work; methods are called from any thread, one at a time, and must not throw.
/// A program shows it (the CLI has a terminal reporter); libraries never draw.
class ProgressObserver {
 public:
  virtual ~ProgressObserver() = default;
  /// A named unit of work begins; `total_bytes` 0 = unknown.
  virtual void started(std::string_view what, std::uint64_t total_bytes) noexcept = 0;
  virtual void advanced(std::string_view what, std::uint64_t done_bytes) noexcept = 0;
  virtual void finished(std::string_view what) noexcept = 0;
  /// Asked between blocks; true stops the work with kCancelled.
  virtual bool cancelled() const noexcept { return false; }
};

}  // namespace kernelhub
