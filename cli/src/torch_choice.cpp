// SPDX-License-Identifier: Apache-2.0
#include "torch_choice.h"

#include "kernelhub/loader/system.h"

#include <boost/process/search_path.hpp>

namespace kernelhub::cli {
namespace {

namespace fs = std::filesystem;

// torch folder of the environment whose bin/ holds `program`, empty when there is none.
fs::path torch_of_environment(const fs::path& program) {
  std::error_code error;
  for (fs::directory_iterator it(program.parent_path().parent_path() / "lib", error), end;
       !error && it != end; it.increment(error)) {
    const fs::path torch = it->path() / "site-packages" / "torch";
    if (fs::exists(torch / "version.py")) return torch;
  }
  return {};
}

fs::path nearest_torch() {
  std::error_code error;
  if (fs::path torch = torch_of_environment(fs::read_symlink("/proc/self/exe", error));
      !torch.empty()) {
    return torch;
  }
  return torch_of_environment(boost::process::search_path("python3").string());
}

}  // namespace

SystemInfo system_for(Config config, const std::string& torch) {
  if (!torch.empty()) {
    config.torch_prefix.clear();
    config.torch_version.clear();
    if (fs::is_directory(torch)) {
      config.torch_prefix = torch;
    } else {
      config.torch_version = torch;
    }
  } else if (config.torch_prefix.empty() && config.torch_version.empty()) {
    config.torch_prefix = nearest_torch();
  }
  return probe_system(config);
}

}  // namespace kernelhub::cli
