// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace kernelhub::layers {

/// Owner of one read-only private mapping of a whole file; the only caller of mmap.
class FileMapping {
 public:
  /// Throws Error kIo naming path and cause; an empty file maps to no bytes.
  explicit FileMapping(const std::filesystem::path& path);
  FileMapping(const FileMapping&) = delete;
  FileMapping& operator=(const FileMapping&) = delete;
  ~FileMapping();
  std::string_view bytes() const noexcept {
    return {static_cast<const char*>(address_), size_bytes_};
  }

 private:
  void* address_ = nullptr;
  std::size_t size_bytes_ = 0;
};

}  // namespace kernelhub::layers
