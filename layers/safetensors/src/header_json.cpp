// SPDX-License-Identifier: Apache-2.0
#include "header_json.h"

#include "safetensors_errors.h"

#include "kernelhub/core/json_access.h"
#include "kernelhub/core/log.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <limits>
#include <tuple>

namespace kernelhub::layers {
namespace {

using nlohmann::json;
using Path = std::filesystem::path;

constexpr std::uint64_t kMaxHeaderBytes = 25u << 20;
constexpr std::uint64_t kMaxTensors = 100'000;
constexpr int kMaxDepth = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

constexpr SafetensorsDtype kDtypes[] = {
    {"BOOL", 8, c10::ScalarType::Bool},
    {"F4", 4, c10::ScalarType::Float4_e2m1fn_x2},
    {"F6_E2M3", 6, c10::ScalarType::Byte},
    {"F6_E3M2", 6, c10::ScalarType::Byte},
    {"U8", 8, c10::ScalarType::Byte},
    {"I8", 8, c10::ScalarType::Char},
    {"F8_E5M2", 8, c10::ScalarType::Float8_e5m2},
    {"F8_E4M3", 8, c10::ScalarType::Float8_e4m3fn},
    {"F8_E5M2FNUZ", 8, c10::ScalarType::Float8_e5m2fnuz},
    {"F8_E4M3FNUZ", 8, c10::ScalarType::Float8_e4m3fnuz},
    {"F8_E8M0", 8, c10::ScalarType::Float8_e8m0fnu},
    {"I16", 16, c10::ScalarType::Short},
    {"U16", 16, c10::ScalarType::UInt16},
    {"F16", 16, c10::ScalarType::Half},
    {"BF16", 16, c10::ScalarType::BFloat16},
    {"I32", 32, c10::ScalarType::Int},
    {"U32", 32, c10::ScalarType::UInt32},
    {"F32", 32, c10::ScalarType::Float},
    {"C64", 64, c10::ScalarType::ComplexFloat},
    {"F64", 64, c10::ScalarType::Double},
    {"I64", 64, c10::ScalarType::Long},
    {"U64", 64, c10::ScalarType::UInt64},
};

const json& field(const json& entry, const char* key, const Path& path, const std::string& tensor) {
  const auto found = entry.find(key);
  if (found == entry.end()) {
    throw safetensors_errors::bad_entry(path, tensor, key, "a value", "nothing");
  }
  return *found;
}

std::uint64_t size_value(const json& value, const char* key, const Path& path,
                         const std::string& tensor) {
  if (!value.is_number_unsigned()) {
    throw safetensors_errors::bad_entry(path, tensor, key, "an integer from 0", value.dump());
  }
  return value.get<std::uint64_t>();
}

std::vector<std::int64_t> shape_of(const json& entry, const Path& path, const std::string& tensor) {
  const json& value = field(entry, "shape", path, tensor);
  if (!value.is_array()) {
    throw safetensors_errors::bad_entry(path, tensor, "shape", "an array", value.type_name());
  }
  std::vector<std::int64_t> shape;
  for (const json& dim : value) {
    const std::uint64_t size = size_value(dim, "shape", path, tensor);
    if (size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      throw safetensors_errors::bad_entry(path, tensor, "shape", "a 63-bit size", dim.dump());
    }
    shape.push_back(static_cast<std::int64_t>(size));
  }
  return shape;
}

/// Bytes of dtype and shape; overflow and a ragged last byte are errors.
std::uint64_t byte_size(const SafetensorsEntry& entry, const SafetensorsDtype& dtype,
                        const Path& path) {
  std::uint64_t bits = static_cast<std::uint64_t>(dtype.bits);
  for (const std::int64_t dim : entry.shape) {
    if (__builtin_mul_overflow(bits, static_cast<std::uint64_t>(dim), &bits)) {
      throw safetensors_errors::bad_entry(path, entry.name, "shape", "a size below 2^64 bits",
                                          "more");
    }
  }
  if (bits % 8 != 0) {
    throw safetensors_errors::bad_entry(path, entry.name, "shape", "whole bytes",
                                        std::to_string(bits) + " bits");
  }
  return bits / 8;
}

SafetensorsEntry entry_of(const std::string& name, const json& value, const Path& path) {
  if (!value.is_object()) {
    throw safetensors_errors::bad_entry(path, name, "entry", "an object", value.type_name());
  }
  SafetensorsEntry entry;
  entry.name = name;
  const json& dtype = field(value, "dtype", path, name);
  const SafetensorsDtype* known =
      dtype.is_string() ? find_dtype(dtype.get_ref<const std::string&>()) : nullptr;
  if (known == nullptr) {
    throw safetensors_errors::bad_entry(path, name, "dtype", "a dtype of the format", dtype.dump());
  }
  entry.dtype = std::string(known->name);
  entry.shape = shape_of(value, path, name);
  const json& offsets = field(value, "data_offsets", path, name);
  if (!offsets.is_array() || offsets.size() != 2) {
    throw safetensors_errors::bad_entry(path, name, "data_offsets", "[begin, end]", offsets.dump());
  }
  entry.begin = size_value(offsets[0], "data_offsets", path, name);
  entry.end = size_value(offsets[1], "data_offsets", path, name);
  if (entry.begin > entry.end) {
    throw safetensors_errors::bad_entry(path, name, "data_offsets", "begin <= end", offsets.dump());
  }
  const std::uint64_t wanted = byte_size(entry, *known, path);
  if (wanted != entry.end - entry.begin) {
    throw safetensors_errors::size_mismatch(path, name, wanted, entry.begin, entry.end);
  }
  return entry;
}

std::map<std::string, std::string> metadata_of(const json& value, const Path& path) {
  if (!value.is_object()) {
    throw safetensors_errors::bad_entry(path, kMetadataKey, "entry", "an object",
                                        value.type_name());
  }
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) {
      throw safetensors_errors::bad_entry(path, kMetadataKey, key, "a string", text.type_name());
    }
    metadata.emplace(key, text.get<std::string>());
  }
  return metadata;
}

json parse_json(std::string_view text, const Path& path) {
  const JsonLimits limits{kMaxHeaderBytes, kMaxDepth};
  try {
    return parse_untrusted_json(text, path.string(), limits);
  } catch (const Error& error) {
    throw safetensors_errors::header_not_json(path, error);
  }
}

std::uint64_t header_size(std::string_view file, const Path& path) {
  if (file.size() < 8) throw safetensors_errors::file_too_short(path, file.size());
  std::uint64_t size = 0;
  for (int i = 7; i >= 0; --i) size = size << 8 | static_cast<unsigned char>(file[i]);
  if (size > kMaxHeaderBytes) {
    throw safetensors_errors::header_too_large(path, size, kMaxHeaderBytes);
  }
  if (size > file.size() - 8) throw safetensors_errors::header_past_end(path, size, file.size());
  return size;
}

/// Tensors must cover the data without hole, overlap or rest.
void check_layout(const SafetensorsHeader& header, std::uint64_t data_bytes, const Path& path,
                  const SafetensorsOptions& options) {
  std::uint64_t end = 0;
  for (const SafetensorsEntry& entry : header.entries) {
    if (entry.begin != end) {
      throw safetensors_errors::bad_offset(path, entry.name, entry.begin, end);
    }
    end = entry.end;
  }
  if (data_bytes < end || (data_bytes > end && !options.allow_trailing)) {
    throw safetensors_errors::data_size(path, data_bytes, end);
  }
}

}  // namespace

const SafetensorsDtype* find_dtype(std::string_view name) noexcept {
  const auto* found = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                   [&](const SafetensorsDtype& d) { return d.name == name; });
  return found == std::end(kDtypes) ? nullptr : found;
}

SafetensorsHeader parse_header(std::string_view file, const Path& path,
                               const SafetensorsOptions& options) {
  const std::uint64_t size = header_size(file, path);
  const std::string_view text = file.substr(8, size);
  const json root = parse_json(text, path);
  if (!root.is_object()) {
    throw safetensors_errors::bad_entry(path, "", "header", "an object", root.type_name());
  }
  if (text.front() != '{') {
    log(LogLevel::kWarning, "safetensors file " + path.string() + ": space before the header");
  }
  if (root.size() > kMaxTensors) {
    throw safetensors_errors::too_many_tensors(path, root.size(), kMaxTensors);
  }
  SafetensorsHeader header;
  header.data_begin = 8 + size;
  for (const auto& [name, value] : root.items()) {
    if (name == kMetadataKey) {
      header.metadata = metadata_of(value, path);
    } else {
      header.entries.push_back(entry_of(name, value, path));
    }
  }
  std::sort(header.entries.begin(), header.entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  check_layout(header, file.size() - header.data_begin, path, options);
  return header;
}

}  // namespace kernelhub::layers
