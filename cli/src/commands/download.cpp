// SPDX-License-Identifier: Apache-2.0
#include "commands.h"
#include "exit_code.h"
#include "revision.h"
#include "torch_choice.h"
#include "transfer_reporter.h"

#include "kernelhub/core/lockfile.h"
#include "kernelhub/get_kernel.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>

namespace kernelhub::cli {
namespace {

namespace fs = std::filesystem;

nlohmann::json to_json(const InstalledKernel& installed) {
  return {{"repo_id", installed.repo->str()},
          {"revision", installed.commit->str()},
          {"variant", installed.variant},
          {"path", installed.directory.string()}};
}

std::vector<InstalledKernel> fetch(const std::string& repo, const KernelSpec& spec,
                                   const DownloadArgs& args, const LoadOptions& options) {
  if (args.all_variants) return install_all_variants(repo, spec, options);
  return {install_kernel(repo, spec, options)};
}

void print(const std::vector<InstalledKernel>& kernels) {
  for (const InstalledKernel& kernel : kernels) {
    std::printf("%s@%s %s\n  %s\n", kernel.repo->str().c_str(), kernel.commit->str().c_str(),
                kernel.variant.c_str(), kernel.directory.c_str());
  }
}

// Every entry is tried; a failure of one is reported and does not stop the others.
int download_locked(const fs::path& folder, const DownloadArgs& args, LoadOptions options) {
  options.lockfile = folder / "kernels.lock";
  const Lockfile lock = Lockfile::read(options.lockfile);
  nlohmann::json document = nlohmann::json::array();
  int code = kOk;
  for (const LockedKernel& locked : lock.kernels()) {
    std::fprintf(stderr, "Downloading kernel: %s (revision: %s)\n", locked.repo.str().c_str(),
                 locked.commit.str().c_str());
    try {
      const auto kernels = fetch(locked.repo.str(), locked.spec, args, options);
      for (const InstalledKernel& kernel : kernels) document.push_back(to_json(kernel));
      if (!args.json) print(kernels);
    } catch (const Error& error) {
      std::fprintf(stderr, "kernelhub: %s\n", error.what());
      document.push_back({{"repo_id", locked.repo.str()},
                          {"error", std::string(error_code_name(error.code()))},
                          {"message", error.what()}});
      code = kFailure;
    }
  }
  if (args.json) std::printf("%s\n", document.dump(2).c_str());
  return code;
}

}  // namespace

int download(const DownloadArgs& args) {
  LoadOptions options;
  options.config = Config::from_env();
  options.system = system_for(*options.config, args.torch);
  if (!args.backend.empty()) options.backend = args.backend;
  options.trust_remote_code.repos = args.trust_remote_code;
  TransferReporter reporter(*options.config);
  options.progress = &reporter;
  if (fs::is_directory(args.target)) return download_locked(args.target, args, options);

  const RepoId repo = RepoId::parse(args.target);
  hub::Client client(*options.config);
  const auto kernels = fetch(repo.str(), spec_of(args.at, client, repo), args, options);
  if (args.json) {
    nlohmann::json document = nlohmann::json::array();
    for (const InstalledKernel& kernel : kernels) document.push_back(to_json(kernel));
    std::printf("%s\n", document.dump(2).c_str());
  } else {
    print(kernels);
  }
  return kOk;
}

}  // namespace kernelhub::cli
