// SPDX-License-Identifier: Apache-2.0
// From a verified library file to a mapped and registered one.
#include "load_mode.h"
#include "loaded_package.h"
#include "loader_errors.h"
#include "namespace_owner.h"
#include "needed_libraries.h"
#include "tvm_ffi_package.h"

#include "kernelhub/loader/preflight.h"
#include "kernelhub/loader/torch_bridge.h"

#include <fmt/format.h>

namespace kernelhub::loader {
namespace {

using File = trust::VerifiedPackage::File;

constexpr std::string_view kTorchSuffix = ".abi3.so";
constexpr std::string_view kInitPrefix = "PyInit_";

bool is_torch_library(std::string_view path) {
  return path.size() > kTorchSuffix.size() &&
         path.substr(path.size() - kTorchSuffix.size()) == kTorchSuffix;
}

std::string stem_of(const File& binary) {
  const std::string name = binary.path.substr(binary.path.rfind('/') + 1);
  return name.substr(0, name.size() - (is_torch_library(name) ? kTorchSuffix.size() : 3));
}

void fill_info(LoadedPackage& package, const File& binary) {
  PackageInfo& info = package.info;
  info.metadata = package.verified.metadata();
  info.origin = package.verified.origin();
  info.framework = is_torch_library(binary.path) ? PackageInfo::Framework::kTorch
                                                 : PackageInfo::Framework::kTvmFfi;
  info.op_namespace =
      info.framework == PackageInfo::Framework::kTorch ? stem_of(binary) : info.metadata.id;
  info.binary = info.origin.directory / binary.path;
  info.binary_digest = binary.digest;
}

ElfFacts run_preflight(LoadedPackage& package, const File& binary,
                       const PackageLoadOptions& options) {
  PreflightOptions checks;
  checks.local_evidence = options.local_evidence;
  checks.tvm_ffi_library = options.tvm_ffi_library;
  PreflightReport report = require_preflight(binary.fd, package.info.binary.string(), checks);
  for (const Finding& finding : report.findings) {
    if (finding.severity != Finding::Severity::kWarning) continue;
    package.info.warnings.push_back(finding.check + ": " + finding.message);
  }
  return std::move(report.facts);
}

/// Whether the mapped bytes must be out of everybody's reach (loader spec T6).
bool must_seal(const LoadedPackage& package, const PackageLoadOptions& options) {
  return package.verified.needs_sealed() || options.require_sealed ||
         options.mode == LoadMode::kSealed;
}

void open_into(LoadedPackage& package, const File& binary, const ElfFacts& facts,
               const PackageLoadOptions& options) {
  const std::string path = package.info.binary.string();
  const bool foreign = package.verified.needs_sealed();
  const OpenRequest request{binary, path, facts, must_seal(package, options)};
  if (foreign) {
    // The verifier has warned; here it only stays with the package.
    package.info.warnings.push_back(fmt::format(
        "{}: another user may write to it or the policy asks for it, so a private copy is mapped",
        path));
  }
  OpenedObject opened = open_object(request);
  package.info.load_mode = opened.sealed_copy ? "sealed" : "fd";
  package.info.python_weak = opened.python_weak;
  package.sealed_copy = std::move(opened.sealed_copy);
  package.object.emplace(std::move(opened.object));
}

/// The namespace of a torch package is its file's stem; the init function's name tells the same.
void require_init_name(const PackageInfo& info, const ElfFacts& facts) {
  for (const ElfFacts::Symbol& symbol : facts.defined) {
    if (symbol.name.compare(0, kInitPrefix.size(), kInitPrefix) != 0) continue;
    const std::string found = symbol.name.substr(kInitPrefix.size());
    if (found != info.op_namespace) {
      throw loader_errors::metadata_mismatch(info.binary.string(), "the op namespace",
                                             info.op_namespace, found);
    }
  }
}

/// torch decides once, at the first question, whether there is CUDA: its device libraries must be
/// mapped before anything asks (loader spec L5).
void map_device_torch(const PackageInfo& info) {
  if (info.metadata.backend != BackendKind::kCuda && info.metadata.backend != BackendKind::kRocm) {
    return;
  }
  const std::vector<UnresolvedLibrary> unresolved = map_needed_libraries({"libtorch.so"}, {});
  if (unresolved.empty()) return;
  throw loader_errors::preflight_failed(
      info.binary.string(), {{Finding::Severity::kError, "MissingLibrary",
                              fmt::format("needs libtorch.so: {}", unresolved.front().reason)}});
}

void load_torch(LoadedPackage& package, const File& binary, const PackageLoadOptions& options) {
  const PackageInfo& info = package.info;
  const std::string path = info.binary.string();
  TorchBridge* bridge = torch_bridge();
  if (bridge == nullptr) throw loader_errors::torch_bridge_missing(path);
  bridge->require_matching_torch();
  map_device_torch(info);
  const ElfFacts facts = run_preflight(package, binary, options);
  require_init_name(info, facts);
  const bool sealed = must_seal(package, options);
  std::optional<SharedObject> mapped = find_mapped_file(binary, info.binary, sealed);
  if (!mapped && !bridge->is_namespace_free(info.op_namespace)) {
    mapped = attach_to_namespace(binary, info.op_namespace, info.binary, sealed);
  }
  if (mapped) {
    package.object.emplace(*std::move(mapped));
    package.info.attached = true;
    package.info.load_mode = sealed ? "sealed" : "fd";
    package.ops = bridge->ops_of(info.op_namespace);
  } else {
    const std::unique_ptr<TorchBridge::Listener> listener = bridge->listen();
    open_into(package, binary, facts, options);
    package.ops = listener->take(info.op_namespace);
  }
  if (package.ops.empty()) {
    throw loader_errors::no_ops_registered(path,
                                           fmt::format("op in namespace '{}'", info.op_namespace));
  }
}

void load_tvm_ffi(LoadedPackage& package, const File& binary, const PackageLoadOptions& options) {
  const ElfFacts facts = run_preflight(package, binary, options);
  std::optional<SharedObject> mapped =
      find_mapped_file(binary, package.info.binary, must_seal(package, options));
  if (mapped) {
    package.object.emplace(*std::move(mapped));
    package.info.attached = true;
    package.info.load_mode = "fd";
  } else {
    open_into(package, binary, facts, options);
  }
  register_tvm_ffi_functions(package, facts);
}

}  // namespace

void load_into(LoadedPackage& package, const File& binary, const PackageLoadOptions& options) {
  fill_info(package, binary);
  if (package.info.framework == PackageInfo::Framework::kTorch) {
    load_torch(package, binary, options);
  } else {
    load_tvm_ffi(package, binary, options);
  }
  package.object->pin();
}

}  // namespace kernelhub::loader
