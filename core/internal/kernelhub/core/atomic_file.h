// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/core/unique_fd.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace kernelhub {

/// Temp file beside the target; commit() renames it into place, the destructor unlinks it.
/// Write errors throw kDiskFull / kReadOnly / kIo with the path.
class KERNELHUB_API AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path target, unsigned mode = 0644);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();
  void write(std::string_view bytes);
  /// `durable`: fdatasync before the rename.
  void commit(bool durable = false);

 private:
  std::filesystem::path target_;
  std::filesystem::path temp_;
  UniqueFd fd_;
};

/// Whole-file write through AtomicFile.
KERNELHUB_API void write_file_atomically(const std::filesystem::path& path, std::string_view bytes,
                                         unsigned mode = 0644);
/// Whole content; throws kIo, or kInvalidArgument above `max_bytes`.
KERNELHUB_API std::string read_file(const std::filesystem::path& path,
                                    std::uint64_t max_bytes = 16u << 20);

}  // namespace kernelhub
