// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>

namespace kernelhub::builder {

/// Device code in a library, as metadata.json writes it: "8.0", "9.0a", "12.1+PTX" (machine code
/// and PTX of one capability). Asks cuobjdump; nothing when that is not on PATH.
std::optional<std::set<std::string>> embedded_cuda_archs(const std::filesystem::path& library);

/// The same from cuobjdump's `--list-elf` and `--list-ptx` texts. Pure.
std::set<std::string> cuda_archs_of_listings(const std::string& elf, const std::string& ptx);

}  // namespace kernelhub::builder
