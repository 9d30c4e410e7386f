// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/trust/verifier.h"

#include <filesystem>
#include <string>
#include <string_view>

/// What must hold before and after the dynamic linker gets a verified file.
namespace kernelhub::loader {

/// Throws LoadError kFileChanged when size or times of the file differ from what they were before
/// its content was hashed (loader spec T5); deleting it changes nothing. `path` is for messages.
KERNELHUB_API void require_unchanged(const trust::VerifiedPackage::File& file,
                                     const std::filesystem::path& path);

/// For a library whose op namespace is registered already: the name by which dlopen gives the
/// mapped library of the same bytes, e.g. one that another client opened from its own path (loader
/// spec N3); with `sealed` only from memory that nobody can write to. It stays mapped. `path` is
/// for messages. Throws LoadError kNamespaceConflict when there is none (opening a second library
/// that registers the ops would end the process), kFileChanged.
KERNELHUB_API std::string require_mapped_copy(const trust::VerifiedPackage::File& binary,
                                              std::string_view op_namespace,
                                              const std::filesystem::path& path, bool sealed);

}  // namespace kernelhub::loader
