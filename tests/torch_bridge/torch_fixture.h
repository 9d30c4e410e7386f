// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "fixture_package.h"

#include <string>

namespace kernelhub {

/// The library `file`.abi3.so as a package called `id`.
inline FixturePackage torch_package(const std::string& id, const std::string& file) {
  return FixturePackage(fixture(file + ".abi3"), fixture_metadata(id), ".abi3.so");
}
inline FixturePackage torch_package(const std::string& id) { return torch_package(id, id); }

}  // namespace kernelhub
