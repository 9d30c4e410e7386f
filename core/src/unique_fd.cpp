// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/unique_fd.h"

#include "kernelhub/core/log.h"

#include <fmt/format.h>

#include <cerrno>
#include <system_error>
#include <unistd.h>

namespace kernelhub {

void UniqueFd::reset() noexcept {
  const int fd = std::exchange(fd_, -1);
  if (fd < 0 || ::close(fd) == 0) return;
  const int error_number = errno;
  log(LogLevel::kWarning,
      fmt::format("closing a file failed: {}", std::generic_category().message(error_number)));
}

}  // namespace kernelhub
