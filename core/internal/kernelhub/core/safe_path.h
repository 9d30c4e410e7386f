// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/core/unique_fd.h"

#include <filesystem>
#include <string>
#include <string_view>

namespace kernelhub {

/// A relative path that stays below its root (trust spec T10): no "..", ".", empty component,
/// leading '/', backslash, NUL, control byte, component over 255 B, total over 1024 B, depth over
/// 16, invalid UTF-8.
class KERNELHUB_API SafeRelPath {
 public:
  /// Throws kUnsafePath naming the path and `origin` (the listing or file it came from).
  static SafeRelPath parse(std::string_view text, std::string_view origin);
  static bool is_safe(std::string_view text) noexcept;
  const std::string& str() const noexcept { return text_; }
  friend bool operator<(const SafeRelPath& a, const SafeRelPath& b) { return a.text_ < b.text_; }
  friend bool operator==(const SafeRelPath& a, const SafeRelPath& b) { return a.text_ == b.text_; }

 private:
  explicit SafeRelPath(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

/// open(2) of `relative` beneath the directory `root_fd` (openat2 RESOLVE_BENEATH, component walk
/// where the kernel lacks it). `flags` are O_* flags; O_CLOEXEC is added. Throws kUnsafePath / kIo.
KERNELHUB_API UniqueFd open_beneath(int root_fd, const SafeRelPath& relative, int flags);

}  // namespace kernelhub
