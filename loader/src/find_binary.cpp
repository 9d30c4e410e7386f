// SPDX-License-Identifier: Apache-2.0
#include "loaded_package.h"
#include "loader_errors.h"

#include "kernelhub/core/variant.h"

#include <algorithm>
#include <string_view>

namespace kernelhub::loader {
namespace {

using File = trust::VerifiedPackage::File;

bool ends_with(std::string_view text, std::string_view suffix) {
  return text.size() >= suffix.size() && text.substr(text.size() - suffix.size()) == suffix;
}

/// Libraries directly in `folder` ("" or "name/"): `*.abi3.so`, and `_*.so` of tvm-ffi.
std::vector<const File*> libraries_in(const std::vector<File>& files, std::string_view folder) {
  std::vector<const File*> found;
  for (const File& file : files) {
    const std::string_view path = file.path;
    if (path.substr(0, folder.size()) != folder) continue;
    const std::string_view name = path.substr(folder.size());
    if (name.find('/') != std::string_view::npos) continue;
    if (ends_with(name, ".abi3.so") || (ends_with(name, ".so") && name.front() == '_')) {
      found.push_back(&file);
    }
  }
  return found;
}

}  // namespace

const File& find_binary(const trust::VerifiedPackage& package) {
  const trust::Origin& origin = package.origin();
  const Metadata& metadata = package.metadata();
  const std::optional<Variant> variant = Variant::parse(origin.variant);
  if (variant && variant->is_noarch()) throw loader_errors::python_only(origin.directory);
  std::vector<const File*> candidates = libraries_in(package.files(), "");
  if (candidates.empty()) {
    candidates = libraries_in(package.files(), python_name(metadata.name) + "/");
  }
  if (candidates.empty()) throw loader_errors::no_binary(origin.directory, metadata.id);
  if (candidates.size() == 1) return *candidates.front();
  loader_errors::Names names;
  for (const File* file : candidates) {
    const std::string name = file->path.substr(file->path.rfind('/') + 1);
    if (name == metadata.id + ".abi3.so" || name == metadata.id + ".so") return *file;
    names.push_back(file->path);
  }
  throw loader_errors::ambiguous_package(origin.directory, names);
}

}  // namespace kernelhub::loader
