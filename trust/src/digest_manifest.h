// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/digest.h"

#include <map>
#include <string>
#include <string_view>

namespace kernelhub::trust {

/// True for the two files that carry the digest and its signature and so cannot be in it.
bool is_outside_digest(std::string_view path);

/// "sha256:<hex>" over, for each path in byte order, its length as 64-bit big-endian, the path and
/// the SHA-256 of the file (trust spec 2.7; the length prefix keeps "ab"+"c" from "a"+"bc").
std::string locked_digest(const std::map<std::string, Digest>& sha256_by_path);

}  // namespace kernelhub::trust
