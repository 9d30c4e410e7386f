// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/loader/package.h"

#include "loaded_package.h"
#include "registry.h"

namespace kernelhub {

const PackageInfo& Package::info() const noexcept { return state_->info; }

std::vector<OpInfo> Package::ops() const { return state_->ops; }

bool Package::is_mapped() const { return state_->object->is_mapped(); }

Package load_package(trust::VerifiedPackage package, const PackageLoadOptions& options) {
  return PackageRegistry::instance().load(std::move(package), options);
}

std::optional<Package> find_loaded(const std::filesystem::path& variant_directory) {
  return PackageRegistry::instance().find(variant_directory);
}

std::vector<Package> get_loaded_kernels() { return PackageRegistry::instance().all(); }

}  // namespace kernelhub
