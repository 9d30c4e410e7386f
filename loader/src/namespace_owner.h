// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "shared_object.h"

#include "kernelhub/core/error.h"
#include "kernelhub/loader/package.h"

#include <optional>

namespace kernelhub::loader {

/// A mapped object whose file has the very bytes of `binary`, e.g. one that Python imported from
/// another path (loader spec N3).
std::optional<SharedObject> find_same_content(const trust::VerifiedPackage::File& binary);

/// kNamespaceConflict that names the mapped file which looks like the owner.
LoadError namespace_conflict(const PackageInfo& info, const trust::VerifiedPackage::File& binary);

}  // namespace kernelhub::loader
