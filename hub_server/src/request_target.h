// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::server {

/// The raw target of a request, split before it is decoded, so that an encoded '/' stays inside
/// its segment.
struct RequestTarget {
  std::string path;  // raw, without query
  std::string raw_query;
  std::vector<std::string> segments;         // each decoded once; base path removed
  std::map<std::string, std::string> query;  // decoded; the first value of a name counts

  /// Throws kBadRequest for a broken escape, a NUL, control byte or backslash, or a target that
  /// is not an absolute path; kEntryNotFound (unknown route) outside `base_path`.
  static RequestTarget parse(std::string_view target, std::string_view base_path);
  /// Segments from `first` on joined with '/'; empty when there are none.
  std::string rest(std::size_t first) const;
};

/// Decodes application/x-www-form-urlencoded text into name-value pairs in their order.
std::vector<std::pair<std::string, std::string>> decode_form(std::string_view text);
/// Percent-encodes all but unreserved characters.
std::string encode_component(std::string_view text);

}  // namespace kernelhub::server
