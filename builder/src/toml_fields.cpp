// SPDX-License-Identifier: Apache-2.0
#include "toml_fields.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace kernelhub::builder {
namespace {

std::string_view type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a float";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

}  // namespace

std::string TomlFields::key_path(std::string_view key) const {
  if (path_.empty()) return std::string(key);
  return key.empty() ? path_ : path_ + "." + std::string(key);
}

void TomlFields::report(Diagnostic::Severity severity, std::string_view key,
                        std::string message) const {
  const toml::node* node = key.empty() ? nullptr : table_->get(key);
  const toml::source_region& where = node ? node->source() : table_->source();
  findings_->push_back(
      {severity, file_, static_cast<int>(where.begin.line), key_path(key), std::move(message)});
}

void TomlFields::error(std::string_view key, std::string message) const {
  report(Diagnostic::Severity::kError, key, std::move(message));
}

void TomlFields::warning(std::string_view key, std::string message) const {
  report(Diagnostic::Severity::kWarning, key, std::move(message));
}

void TomlFields::wrong_type(std::string_view key, std::string_view expected) const {
  error(key, fmt::format("expected {}, found {}", expected, type_name(*table_->get(key))));
}

void TomlFields::only(std::initializer_list<std::string_view> allowed) const {
  for (const auto& [key, node] : *table_) {
    if (std::find(allowed.begin(), allowed.end(), key.str()) != allowed.end()) continue;
    error(key.str(), fmt::format("unknown key, expected one of: {}", fmt::join(allowed, ", ")));
  }
}

std::optional<std::string> TomlFields::string(std::string_view key) const {
  const toml::node* node = table_->get(key);
  if (!node) return std::nullopt;
  if (const auto* text = node->as_string()) return text->get();
  wrong_type(key, "a string");
  return std::nullopt;
}

std::string TomlFields::required_string(std::string_view key) const {
  if (!has(key)) error(key, "missing, expected a string");
  return string(key).value_or("");
}

std::optional<std::int64_t> TomlFields::integer(std::string_view key) const {
  const toml::node* node = table_->get(key);
  if (!node) return std::nullopt;
  if (const auto* number = node->as_integer()) return number->get();
  wrong_type(key, "an integer");
  return std::nullopt;
}

std::vector<std::string> TomlFields::strings(std::string_view key) const {
  std::vector<std::string> values;
  const toml::node* node = table_->get(key);
  if (!node) return values;
  const toml::array* array = node->as_array();
  if (!array) {
    wrong_type(key, "an array of strings");
    return values;
  }
  for (const toml::node& element : *array) {
    if (const auto* text = element.as_string()) {
      values.push_back(text->get());
    } else {
      error(key, fmt::format("expected an array of strings, found {} in it", type_name(element)));
    }
  }
  return values;
}

std::vector<std::string> TomlFields::required_strings(std::string_view key) const {
  if (!has(key)) error(key, "missing, expected an array of strings");
  return strings(key);
}

std::optional<MajorMinor> TomlFields::parse_version(std::string_view key,
                                                    std::string_view text) const {
  std::optional<MajorMinor> version = parse_major_minor(text);
  if (version && version->str() == text) return version;
  error(key, fmt::format("expected a version \"x.y\", found \"{}\"", text));
  return std::nullopt;
}

std::optional<MajorMinor> TomlFields::version(std::string_view key) const {
  const toml::node* node = table_->get(key);
  if (!node) return std::nullopt;
  if (const auto* text = node->as_string()) return parse_version(key, text->get());
  wrong_type(key, "a version string \"x.y\"");
  return std::nullopt;
}

std::optional<TomlFields> TomlFields::table(std::string_view key) const {
  const toml::node* node = table_->get(key);
  if (!node) return std::nullopt;
  if (const toml::table* table = node->as_table()) {
    return TomlFields(*table, key_path(key), file_, *findings_);
  }
  wrong_type(key, "a table");
  return std::nullopt;
}

std::vector<TomlFields> TomlFields::tables(std::string_view key) const {
  std::vector<TomlFields> elements;
  const toml::node* node = table_->get(key);
  if (!node) return elements;
  const toml::array* array = node->as_array();
  if (!array) {
    wrong_type(key, "an array of tables");
    return elements;
  }
  for (std::size_t index = 0; index < array->size(); ++index) {
    const toml::table* table = array->get(index)->as_table();
    if (table) {
      elements.emplace_back(*table, fmt::format("{}[{}]", key_path(key), index), file_, *findings_);
    } else {
      error(key, fmt::format("expected an array of tables, found {} in it",
                             type_name(*array->get(index))));
    }
  }
  return elements;
}

std::vector<std::string> TomlFields::keys() const {
  std::vector<std::string> names;
  for (const auto& [key, node] : *table_) names.emplace_back(key.str());
  return names;
}

}  // namespace kernelhub::builder
