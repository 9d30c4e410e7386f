// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/unique_fd.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace kernelhub::loader {

/// A file in private memory that nobody can change once sealed, executable even where every
/// writable file system is mounted noexec.
class SealedFile {
 public:
  /// `name` shows in /proc and in errors. Throws kDlopenFailed.
  explicit SealedFile(std::string name);
  void write(std::string_view bytes);
  /// Replaces one byte that was written.
  void replace(std::uint64_t offset, char byte);
  /// Ends writing, growing and shrinking for good.
  UniqueFd seal();
  int fd() const noexcept { return fd_.get(); }

 private:
  std::string name_;
  UniqueFd fd_;
};

}  // namespace kernelhub::loader
