// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ownership.h"

#include "kernelhub/core/unique_fd.h"
#include "kernelhub/trust/verifier.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace kernelhub::trust {

/// One file of a variant, open; later steps read through `fd` only.
struct OpenFile {
  std::string path;  // relative, '/' separated
  UniqueFd fd;
  std::uint64_t size_bytes = 0;
  std::int64_t modified_ns = 0;
  std::int64_t changed_ns = 0;
};

/// Every file of a variant directory, each opened exactly once, by path in byte order. Links are
/// taken only into `blob_root`; `__pycache__` folders are not entered.
/// Throws kUnsafePath, kUnknownFile (bytecode), kUnsafeOwnership, kIo.
std::vector<OpenFile> open_variant(const Origin& origin, const std::filesystem::path& blob_root,
                                   OwnershipCheck& ownership);

/// Python bytecode that an importer would run instead of, or beside, the judged source.
bool is_bytecode(std::string_view path);

}  // namespace kernelhub::trust
