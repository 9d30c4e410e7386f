// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "shared_object.h"

#include "kernelhub/core/error.h"
#include "kernelhub/trust/verifier.h"

#include <filesystem>
#include <optional>
#include <string_view>

namespace kernelhub::loader {

/// A mapped object whose file has the very bytes of `binary`, e.g. one that Python imported from
/// another path (loader spec N3).
std::optional<SharedObject> find_same_content(const trust::VerifiedPackage::File& binary);

/// kNamespaceConflict that names the mapped file which looks like the owner.
LoadError namespace_conflict(std::string_view op_namespace, const std::filesystem::path& path,
                             const trust::VerifiedPackage::File& binary);

}  // namespace kernelhub::loader
