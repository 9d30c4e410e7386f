// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "shared_object.h"

#include "kernelhub/abi/package.h"
#include "kernelhub/core/unique_fd.h"
#include "kernelhub/loader/package.h"

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kernelhub::loader {

/// Everything that belongs to one package in this process.
struct LoadedPackage {
  explicit LoadedPackage(trust::VerifiedPackage package) : verified(std::move(package)) {}

  trust::VerifiedPackage verified;  // its descriptors stay open as long as the object is mapped
  UniqueFd sealed_copy;             // what is mapped instead of the file, in sealed mode
  std::optional<SharedObject> object;
  PackageInfo info;
  std::vector<OpInfo> ops;
  std::map<std::string, kh_call, std::less<>> functions;  // tvm-ffi packages
};

/// The shared library of a verified variant (loader spec 3). Throws kPythonOnly, kNoBinary,
/// kAmbiguousPackage.
const trust::VerifiedPackage::File& find_binary(const trust::VerifiedPackage& package);

/// Checks, maps and registers `binary` of `package`, and fills the rest of it.
void load_into(LoadedPackage& package, const trust::VerifiedPackage::File& binary,
               const PackageLoadOptions& options);

}  // namespace kernelhub::loader

namespace kernelhub {

struct Package::State : loader::LoadedPackage {
  using LoadedPackage::LoadedPackage;
};

}  // namespace kernelhub
