// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace kernelhub::server {

struct ByteRange {
  std::uint64_t first = 0;
  std::uint64_t size_bytes = 0;  // 0: cannot be satisfied
};

/// A single range `bytes=a-b`, `bytes=a-` or `bytes=-n` of `total` bytes, cut to what exists.
/// Nothing for any other header: it is then ignored (RFC 9110, 14.2).
std::optional<ByteRange> parse_byte_range(std::string_view header, std::uint64_t total);

}  // namespace kernelhub::server
