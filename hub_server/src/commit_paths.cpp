// SPDX-License-Identifier: Apache-2.0
#include "commit_paths.h"

#include "server_errors.h"

#include "kernelhub/core/safe_path.h"

namespace kernelhub::server {

std::string commit_path(const std::string& text) {
  const std::string path = SafeRelPath::parse(text, "commit").str();
  const std::string framed = "/" + path + "/";
  if (framed.find("/.git/") != std::string::npos || framed.find("/.cache/") != std::string::npos) {
    throw server_errors::bad_request("path " + path + " has a .git or .cache folder");
  }
  return path;
}

std::string commit_folder(const std::string& text) {
  const bool ends_in_slash = text.size() > 1 && text.back() == '/';
  return commit_path(ends_in_slash ? text.substr(0, text.size() - 1) : text);
}

}  // namespace kernelhub::server
