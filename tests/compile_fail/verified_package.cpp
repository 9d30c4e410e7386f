// SPDX-License-Identifier: Apache-2.0
// Only what the verifier made can be loaded.
#include "kernelhub/loader/package.h"

#include <string>
#include <utility>

kernelhub::Package load(kernelhub::trust::VerifiedPackage package) {
  return kernelhub::load_package(std::move(package));
}

#if CASE == 1
kernelhub::Package by_path(const std::string& path) { return kernelhub::load_package(path); }
#elif CASE == 2
kernelhub::trust::VerifiedPackage made() { return kernelhub::trust::VerifiedPackage(); }
#elif CASE == 3
kernelhub::trust::VerifiedPackage copied(const kernelhub::trust::VerifiedPackage& package) {
  return package;
}
#elif CASE == 4
kernelhub::Package empty() { return kernelhub::Package(); }
#endif
