// SPDX-License-Identifier: Apache-2.0
#include "elf_image.h"
#include "loader_errors.h"

#include "kernelhub/core/core_errors.h"

#include <cerrno>
#include <sys/stat.h>
#include <unistd.h>

namespace kernelhub::loader {

BoundedFile::BoundedFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {
  struct stat status {};
  if (fstat(fd_, &status) != 0) throw core_errors::read_failed(path_, errno);
  if (!S_ISREG(status.st_mode)) throw loader_errors::not_elf(path_, "a directory or device");
  size_bytes_ = static_cast<std::uint64_t>(status.st_size);
}

void BoundedFile::require(std::uint64_t offset, std::uint64_t size_bytes,
                          std::string_view part) const {
  if (offset > size_bytes_ || size_bytes > size_bytes_ - offset) {
    const std::uint64_t end = offset + size_bytes;
    throw loader_errors::truncated_elf(path_, part, end < offset ? UINT64_MAX : end, size_bytes_);
  }
}

void BoundedFile::read_into(void* out, std::uint64_t offset, std::uint64_t size_bytes,
                            std::string_view part) const {
  auto* cursor = static_cast<char*>(out);
  const std::uint64_t end = offset + size_bytes;
  while (offset < end) {
    const ssize_t count = pread(fd_, cursor, end - offset, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw core_errors::read_failed(path_, errno);
    if (count == 0) throw loader_errors::truncated_elf(path_, part, end, offset);
    cursor += count;
    offset += static_cast<std::uint64_t>(count);
  }
}

std::vector<char> BoundedFile::read(std::uint64_t offset, std::uint64_t size_bytes,
                                    std::string_view part) const {
  require(offset, size_bytes, part);
  std::vector<char> bytes(size_bytes);
  read_into(bytes.data(), offset, size_bytes, part);
  return bytes;
}

}  // namespace kernelhub::loader
