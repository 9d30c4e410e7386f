// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/error.h"
#include "kernelhub/core/export.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub {

/// Bounds of trust spec 5.1 for one kind of input.
struct JsonLimits {
  std::uint64_t max_bytes = 1u << 20;
  int max_depth = 32;
  std::uint64_t max_nodes = 2'000'000;
};

/// The only door for JSON that was not written by this process: depth, node and size limits, no
/// duplicate keys, no NUL, valid UTF-8, no BOM, whole input consumed.
/// Throws kInvalidJson naming `origin`, byte offset and reason.
KERNELHUB_API nlohmann::json parse_untrusted_json(std::string_view bytes, std::string_view origin,
                                                  const JsonLimits& limits = {});

/// Typed reads of one JSON object; every failure names origin and JSON path, expected and found.
class KERNELHUB_API JsonObject {
 public:
  /// `code`: thrown by all reads. Throws when `value` is not an object.
  JsonObject(const nlohmann::json& value, std::string_view origin, std::string path,
             ErrorCode code);
  bool has(std::string_view key) const;  // present and not null
  std::string string(std::string_view key) const;
  std::optional<std::string> optional_string(std::string_view key) const;
  std::uint64_t unsigned_integer(std::string_view key) const;
  std::optional<std::uint64_t> optional_unsigned(std::string_view key) const;
  bool boolean(std::string_view key) const;
  std::optional<bool> optional_boolean(std::string_view key) const;
  std::vector<std::string> strings(std::string_view key) const;  // absent or null: empty
  JsonObject object(std::string_view key) const;
  std::optional<JsonObject> optional_object(std::string_view key) const;
  /// Elements of an array of objects; absent or null: empty.
  std::vector<JsonObject> objects(std::string_view key) const;
  std::vector<std::string> keys() const;
  /// Throws naming the first key outside `allowed`.
  void only(std::initializer_list<std::string_view> allowed) const;
  const nlohmann::json& json() const noexcept { return *value_; }
  const std::string& path() const noexcept { return path_; }
  [[noreturn]] void fail(std::string_view key, std::string_view expected,
                         std::string_view found) const;

 private:
  const nlohmann::json* value_;
  std::string origin_;
  std::string path_;
  ErrorCode code_;
};

}  // namespace kernelhub
