// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/json_access.h"

#include "kernelhub/core/core_errors.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

namespace kernelhub {
namespace {

using Json = nlohmann::json;

/// Input iterator that publishes how far the parser has read, for byte offsets in errors.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** last_read) : at_(at), last_read_(last_read) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    *last_read_ = ++at_;
    return *this;
  }
  friend bool operator==(const CountingIterator& a, const CountingIterator& b) {
    return a.at_ == b.at_;
  }
  friend bool operator!=(const CountingIterator& a, const CountingIterator& b) {
    return a.at_ != b.at_;
  }

 private:
  const char* at_;
  const char** last_read_;
};

/// Builds the document while it enforces the limits, so that hostile input is stopped early.
class LimitedBuilder : public nlohmann::json_sax<Json> {
 public:
  LimitedBuilder(std::string_view bytes, std::string_view origin, const JsonLimits& limits)
      : begin_(bytes.data()), last_read_(bytes.data()), origin_(origin), limits_(limits) {}

  const char** last_read() { return &last_read_; }
  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<number_unsigned_t>(std::numeric_limits<std::int64_t>::max())) {
      fail("a number is outside 64 bits");
    }
    return add(value);
  }
  bool number_float(number_float_t value, const string_t& text) override {
    if (text.find_first_of(".eE") == string_t::npos) fail("a number is outside 64 bits");
    return add(value);
  }
  bool string(string_t& value) override {
    refuse_nul(value);
    return add(std::move(value));
  }
  bool binary(binary_t&) override { fail("binary values are not JSON"); }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& value) override {
    refuse_nul(value);
    if (stack_.back()->contains(value)) {
      fail(fmt::format("the key '{}' appears twice in one object", value));
    }
    key_ = std::move(value);
    return true;
  }
  bool parse_error(std::size_t position, const std::string& token,
                   const nlohmann::detail::exception& error) override {
    // Id 101 is the grammar; others say that a number does not fit.
    throw core_errors::invalid_json(
        origin_, position,
        error.id == 101 ? fmt::format("unexpected '{}'", token) : "a number is out of range");
  }

 private:
  [[noreturn]] void fail(std::string_view reason) const {
    throw core_errors::invalid_json(origin_, static_cast<std::uint64_t>(last_read_ - begin_),
                                    reason);
  }
  void refuse_nul(const std::string& text) const {
    if (text.find('\0') != std::string::npos) fail("a string has a NUL character");
  }
  Json* place(Json value) {
    if (++nodes_ > limits_.max_nodes) fail(fmt::format("more than {} values", limits_.max_nodes));
    if (stack_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    return &(parent[key_] = std::move(value));
  }
  bool add(Json value) {
    place(std::move(value));
    return true;
  }
  bool open(Json value) {
    if (stack_.size() >= static_cast<std::size_t>(limits_.max_depth)) {
      fail(fmt::format("nested deeper than {} levels", limits_.max_depth));
    }
    stack_.push_back(place(std::move(value)));
    return true;
  }
  bool close() {
    stack_.pop_back();
    return true;
  }

  const char* begin_;
  const char* last_read_;
  std::string_view origin_;
  const JsonLimits& limits_;
  Json root_;
  // Pointers stay valid: only the innermost container grows, and it is the last of its parent.
  std::vector<Json*> stack_;
  std::string key_;
  std::uint64_t nodes_ = 0;
};

/// What a value is, for messages.
std::string describe(const Json& value) {
  if (value.is_string()) return fmt::format("\"{}\"", value.get_ref<const std::string&>());
  if (value.is_structured()) return value.is_array() ? "an array" : "an object";
  return value.dump();
}

}  // namespace

namespace core_errors {

std::string facts_json(std::initializer_list<Fact> facts) {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  for (const Fact& fact : facts) object[std::string(fact.first)] = fact.second;
  return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace core_errors

Json parse_untrusted_json(std::string_view bytes, std::string_view origin,
                          const JsonLimits& limits) {
  if (bytes.size() > limits.max_bytes) {
    throw core_errors::invalid_json(origin, limits.max_bytes,
                                    fmt::format("longer than {} bytes", limits.max_bytes));
  }
  if (bytes.substr(0, 3) == "\xEF\xBB\xBF") {
    throw core_errors::invalid_json(origin, 0, "it starts with a byte order mark");
  }
  // The parser takes a NUL for the end of its input and would leave the rest unread.
  if (const std::size_t nul = bytes.find('\0'); nul != std::string_view::npos) {
    throw core_errors::invalid_json(origin, nul, "a NUL byte");
  }
  // The library takes a NUL byte as the end of its input.
  if (const std::size_t nul = bytes.find('\0'); nul != std::string_view::npos) {
    throw core_errors::invalid_json(origin, nul, "it has a NUL byte");
  }
  LimitedBuilder builder(bytes, origin, limits);
  Json::sax_parse(CountingIterator(bytes.data(), builder.last_read()),
                  CountingIterator(bytes.data() + bytes.size(), builder.last_read()), &builder);
  return builder.take();
}

JsonObject::JsonObject(const Json& value, std::string_view origin, std::string path, ErrorCode code)
    : value_(&value), origin_(origin), path_(std::move(path)), code_(code) {
  if (!value.is_object()) {
    throw core_errors::json_field(code_, origin_, path_, "an object", describe(value));
  }
}

void JsonObject::fail(std::string_view key, std::string_view expected,
                      std::string_view found) const {
  const std::string path = key.empty() ? path_ : fmt::format("{}.{}", path_, key);
  throw core_errors::json_field(code_, origin_, path, expected, found);
}

bool JsonObject::has(std::string_view key) const {
  const auto found = value_->find(key);
  return found != value_->end() && !found->is_null();
}

namespace {

/// The value of `key`, or nothing when it is absent or null; fails when `is_right` says no.
template <class Predicate>
const Json* find_typed(const JsonObject& object, std::string_view key, std::string_view expected,
                       Predicate is_right) {
  if (!object.has(key)) return nullptr;
  const Json& value = *object.json().find(key);
  if (!is_right(value)) object.fail(key, expected, describe(value));
  return &value;
}

const Json* find_string(const JsonObject& object, std::string_view key) {
  return find_typed(object, key, "a string", [](const Json& v) { return v.is_string(); });
}
const Json* find_unsigned(const JsonObject& object, std::string_view key) {
  return find_typed(object, key, "a number of 0 or more",
                    [](const Json& v) { return v.is_number_unsigned(); });
}
const Json* find_boolean(const JsonObject& object, std::string_view key) {
  return find_typed(object, key, "true or false", [](const Json& v) { return v.is_boolean(); });
}
const Json* find_array(const JsonObject& object, std::string_view key) {
  return find_typed(object, key, "an array", [](const Json& v) { return v.is_array(); });
}

}  // namespace

std::string JsonObject::string(std::string_view key) const {
  const Json* value = find_string(*this, key);
  if (value == nullptr) fail(key, "a string", "nothing");
  return value->get<std::string>();
}

std::optional<std::string> JsonObject::optional_string(std::string_view key) const {
  const Json* value = find_string(*this, key);
  return value == nullptr ? std::nullopt : std::optional(value->get<std::string>());
}

std::uint64_t JsonObject::unsigned_integer(std::string_view key) const {
  const Json* value = find_unsigned(*this, key);
  if (value == nullptr) fail(key, "a number of 0 or more", "nothing");
  return value->get<std::uint64_t>();
}

std::optional<std::uint64_t> JsonObject::optional_unsigned(std::string_view key) const {
  const Json* value = find_unsigned(*this, key);
  return value == nullptr ? std::nullopt : std::optional(value->get<std::uint64_t>());
}

bool JsonObject::boolean(std::string_view key) const {
  const Json* value = find_boolean(*this, key);
  if (value == nullptr) fail(key, "true or false", "nothing");
  return value->get<bool>();
}

std::optional<bool> JsonObject::optional_boolean(std::string_view key) const {
  const Json* value = find_boolean(*this, key);
  return value == nullptr ? std::nullopt : std::optional(value->get<bool>());
}

std::vector<std::string> JsonObject::strings(std::string_view key) const {
  std::vector<std::string> texts;
  const Json* array = find_array(*this, key);
  if (array == nullptr) return texts;
  for (const Json& item : *array) {
    if (!item.is_string()) {
      fail(fmt::format("{}[{}]", key, texts.size()), "a string", describe(item));
    }
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

JsonObject JsonObject::object(std::string_view key) const {
  if (!has(key)) fail(key, "an object", "nothing");
  return JsonObject(*value_->find(key), origin_, fmt::format("{}.{}", path_, key), code_);
}

std::optional<JsonObject> JsonObject::optional_object(std::string_view key) const {
  return has(key) ? std::optional(object(key)) : std::nullopt;
}

std::vector<JsonObject> JsonObject::objects(std::string_view key) const {
  std::vector<JsonObject> items;
  const Json* array = find_array(*this, key);
  if (array == nullptr) return items;
  for (const Json& item : *array) {
    items.emplace_back(item, origin_, fmt::format("{}.{}[{}]", path_, key, items.size()), code_);
  }
  return items;
}

std::vector<std::string> JsonObject::keys() const {
  std::vector<std::string> names;
  for (const auto& item : value_->items()) names.push_back(item.key());
  return names;
}

void JsonObject::only(std::initializer_list<std::string_view> allowed) const {
  for (const auto& item : value_->items()) {
    if (std::find(allowed.begin(), allowed.end(), item.key()) == allowed.end()) {
      fail(item.key(), fmt::format("one of the keys {}", fmt::join(allowed, ", ")),
           "an unknown key");
    }
  }
}

}  // namespace kernelhub
