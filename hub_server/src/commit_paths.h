// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace kernelhub::server {

/// Path of a file that a commit may name: safe, and below no .git or .cache folder.
/// Throws kUnsafePath, kBadRequest.
std::string commit_path(const std::string& text);
/// The same for a folder, which clients may end in '/'.
std::string commit_folder(const std::string& text);

}  // namespace kernelhub::server
