// SPDX-License-Identifier: Apache-2.0
#include "tvm_ffi_package.h"

#include "host_table.h"
#include "loader_errors.h"

#include <string_view>

namespace kernelhub::loader {
namespace {

constexpr std::string_view kPrefix = KERNELHUB_FUNCTION_PREFIX;

/// Names that tvm-ffi keeps for itself: `__tvm_ffi__metadata_f`, `__tvm_ffi__library_bin`, ...
bool is_reserved(std::string_view name) {
  return name.empty() || name.front() == '_' || name == "main";
}

std::string path_of(const LoadedPackage& package) { return package.info.binary.string(); }

std::string text(const char* c_string) { return c_string == nullptr ? "" : c_string; }

void require_equal(const LoadedPackage& package, std::string_view field, const std::string& wanted,
                   const std::string& found) {
  if (wanted == found) return;
  throw loader_errors::metadata_mismatch(path_of(package), field, wanted, found);
}

void check_identity(const LoadedPackage& package, const kh_package& descriptor) {
  const Metadata& metadata = package.info.metadata;
  require_equal(package, "id", metadata.id, text(descriptor.id));
  require_equal(package, "name", metadata.name, text(descriptor.name));
  if (KH_HAS(&descriptor, version)) {
    require_equal(package, "version", std::to_string(metadata.version),
                  std::to_string(descriptor.version));
  }
  if (KH_HAS(&descriptor, backend) && descriptor.backend != nullptr) {
    require_equal(package, "backend", std::string(backend_name(metadata.backend)),
                  descriptor.backend);
  }
}

const kh_package* descriptor_of(LoadedPackage& package) {
  const auto entry =
      reinterpret_cast<kh_package_entry>(package.object->symbol(KERNELHUB_PACKAGE_SYMBOL));
  if (entry == nullptr) return nullptr;
  const kh_package* descriptor = entry(KERNELHUB_ABI);
  if (descriptor == nullptr) {
    package.info.warnings.push_back(
        "its descriptor speaks another version of the package ABI and is not used");
  }
  return descriptor;
}

void attach(const LoadedPackage& package, const kh_package& descriptor) {
  if (!KH_HAS(&descriptor, attach) || descriptor.attach == nullptr) return;
  if (descriptor.attach(&host_table()) == 0) return;
  const RaisedError error = take_raised_error();
  throw loader_errors::attach_failed(path_of(package), error.kind, error.message);
}

/// Schema of a function by its row in the descriptor; empty when there is none.
std::string schema_of(const kh_package* descriptor, std::string_view name) {
  if (descriptor == nullptr || !KH_HAS(descriptor, num_functions)) return {};
  for (std::uint32_t i = 0; i < descriptor->num_functions; ++i) {
    if (name == text(descriptor->functions[i].name)) return text(descriptor->functions[i].schema);
  }
  return {};
}

}  // namespace

void register_tvm_ffi_functions(LoadedPackage& package, const ElfFacts& facts) {
  const kh_package* descriptor = descriptor_of(package);
  if (descriptor != nullptr) check_identity(package, *descriptor);
  for (const ElfFacts::Symbol& symbol : facts.defined) {
    if (symbol.name.compare(0, kPrefix.size(), kPrefix) != 0) continue;
    const std::string name = symbol.name.substr(kPrefix.size());
    void* address = is_reserved(name) ? nullptr : package.object->symbol(symbol.name.c_str());
    if (address == nullptr) continue;
    package.functions[name] = reinterpret_cast<kh_call>(address);
    package.ops.push_back({name, "", schema_of(descriptor, name)});
  }
  if (package.functions.empty()) {
    throw loader_errors::no_ops_registered(path_of(package), "function (__tvm_ffi_<name>)");
  }
  if (descriptor != nullptr) attach(package, *descriptor);
}

}  // namespace kernelhub::loader
