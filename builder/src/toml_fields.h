// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/builder/build_toml.h"
#include "kernelhub/core/toml.h"

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::builder {

/// Typed reads of one TOML table. A wrong type or value becomes a Diagnostic and the read goes on
/// with nothing, so that one run reports all.
class TomlFields {
 public:
  TomlFields(const toml::table& table, std::string path, std::string file,
             std::vector<Diagnostic>& findings)
      : table_(&table), path_(std::move(path)), file_(std::move(file)), findings_(&findings) {}

  bool has(std::string_view key) const { return table_->contains(key); }
  /// Reports every key outside `allowed`.
  void only(std::initializer_list<std::string_view> allowed) const;
  std::optional<std::string> string(std::string_view key) const;
  std::string required_string(std::string_view key) const;
  std::optional<std::int64_t> integer(std::string_view key) const;
  std::vector<std::string> strings(std::string_view key) const;
  std::vector<std::string> required_strings(std::string_view key) const;
  std::optional<MajorMinor> version(std::string_view key) const;
  /// "x.y" or nothing, reported under `key`.
  std::optional<MajorMinor> parse_version(std::string_view key, std::string_view text) const;
  std::optional<TomlFields> table(std::string_view key) const;
  /// Elements of an array of tables.
  std::vector<TomlFields> tables(std::string_view key) const;
  std::vector<std::string> keys() const;
  const toml::table& toml() const noexcept { return *table_; }
  const toml::node* node(std::string_view key) const { return table_->get(key); }

  void error(std::string_view key, std::string message) const;
  void warning(std::string_view key, std::string message) const;

 private:
  void report(Diagnostic::Severity severity, std::string_view key, std::string message) const;
  void wrong_type(std::string_view key, std::string_view expected) const;
  std::string key_path(std::string_view key) const;

  const toml::table* table_;
  std::string path_;
  std::string file_;
  std::vector<Diagnostic>* findings_;
};

}  // namespace kernelhub::builder
