// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <ctime>

namespace kernelhub {

/// A time of stat(2) as one number, by which "unchanged since" is decided: exact, unlike the clocks
/// of std::filesystem.
inline std::int64_t nanoseconds(const timespec& time) {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace kernelhub
