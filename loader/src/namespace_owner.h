// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "shared_object.h"

#include "kernelhub/core/error.h"
#include "kernelhub/trust/verifier.h"

#include <filesystem>
#include <optional>
#include <string_view>

namespace kernelhub::loader {

/// The object when this very file is mapped already; nothing when a sealed copy must be mapped.
/// Throws kFileChanged.
std::optional<SharedObject> find_mapped_file(const trust::VerifiedPackage::File& binary,
                                             const std::filesystem::path& path, bool sealed);

/// The mapped object that registered the ops, for a namespace that is taken: of this file or of the
/// same bytes (loader spec N3); with `sealed` only one that nobody can write to. Throws
/// kNamespaceConflict, kFileChanged.
SharedObject attach_to_namespace(const trust::VerifiedPackage::File& binary,
                                 std::string_view op_namespace, const std::filesystem::path& path,
                                 bool sealed);

/// kNamespaceConflict that names the mapped file which looks like the owner.
LoadError namespace_conflict(std::string_view op_namespace, const std::filesystem::path& path,
                             const trust::VerifiedPackage::File& binary);

}  // namespace kernelhub::loader
