// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/safetensors.h"

#include "file_mapping.h"
#include "header_json.h"
#include "safetensors_errors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <cstring>
#include <unordered_map>

namespace kernelhub {

struct SafetensorsFile::State {
  State(const std::filesystem::path& file, const SafetensorsOptions& options)
      : path(file),
        mapping(std::make_shared<const layers::FileMapping>(file)),
        header(layers::parse_header(mapping->bytes(), file, options)) {
    for (const SafetensorsEntry& entry : header.entries) by_name.emplace(entry.name, &entry);
  }
  std::filesystem::path path;
  std::shared_ptr<const layers::FileMapping> mapping;
  layers::SafetensorsHeader header;
  std::unordered_map<std::string_view, const SafetensorsEntry*> by_name;
};

namespace {

/// Sizes of the torch tensor: two F4 values share an element, F6 stays packed.
std::vector<std::int64_t> torch_sizes(const SafetensorsEntry& entry, int bits) {
  if (bits == 6) return {static_cast<std::int64_t>(entry.end - entry.begin)};
  std::vector<std::int64_t> sizes = entry.shape;
  if (bits == 4) {
    if (sizes.back() % 2 != 0) return {static_cast<std::int64_t>(entry.end - entry.begin)};
    sizes.back() /= 2;
  }
  return sizes;
}

/// Names that share the last component, at most five, for the error text.
std::vector<std::string> near_names(const std::vector<SafetensorsEntry>& entries,
                                    std::string_view name) {
  const std::string_view last = name.substr(name.rfind('.') + 1);
  std::vector<std::string> near;
  for (const SafetensorsEntry& entry : entries) {
    if (near.size() < 5 && entry.name.find(last) != std::string::npos) near.push_back(entry.name);
  }
  return near;
}

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path,
                                      const SafetensorsOptions& options) {
  return SafetensorsFile(std::make_shared<const State>(path, options));
}

const std::vector<SafetensorsEntry>& SafetensorsFile::entries() const noexcept {
  return state_->header.entries;
}

const std::map<std::string, std::string>& SafetensorsFile::metadata() const noexcept {
  return state_->header.metadata;
}

bool SafetensorsFile::has(std::string_view name) const noexcept {
  return state_->by_name.count(name) != 0;
}

const std::filesystem::path& SafetensorsFile::path() const noexcept { return state_->path; }

at::Tensor SafetensorsFile::tensor(std::string_view name) const {
  const auto found = state_->by_name.find(name);
  if (found == state_->by_name.end()) {
    throw layers::safetensors_errors::no_such_tensor(state_->path, name,
                                                     near_names(entries(), name));
  }
  const SafetensorsEntry& entry = *found->second;
  const layers::SafetensorsDtype& dtype = *layers::find_dtype(entry.dtype);
  const char* data = state_->mapping->bytes().data() + state_->header.data_begin + entry.begin;
  const std::vector<std::int64_t> sizes = torch_sizes(entry, dtype.bits);
  const at::TensorOptions options(dtype.scalar);
  if (reinterpret_cast<std::uintptr_t>(data) % c10::elementSize(dtype.scalar) != 0) {
    const at::Tensor copy = at::empty(sizes, options);
    std::memcpy(copy.mutable_data_ptr(), data, entry.end - entry.begin);
    return copy;
  }
  // from_blob takes a mutable pointer; the pages are mapped read-only.
  return at::from_blob(
      const_cast<char*>(data), sizes, [mapping = state_->mapping](void*) {}, options);
}

}  // namespace kernelhub
