// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/config.h"
#include "kernelhub/core/export.h"
#include "kernelhub/core/progress.h"
#include "kernelhub/core/repo.h"
#include "kernelhub/core/result.h"
#include "kernelhub/core/system_info.h"
#include "kernelhub/core/variant.h"
#include "kernelhub/loader/kernel.h"
#include "kernelhub/trust/policy.h"
#include "kernelhub/trust/verifier.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// From a repository id to a callable kernel, in one direction (docs/life_of_get_kernel.md).
///
///   auto activation = kernelhub::get_kernel("kernels-community/activation", {.version = 1});
///   auto gelu_fast = activation.op<void(at::Tensor, at::Tensor)>("gelu_fast");
namespace kernelhub {

struct LoadOptions {
  LoadMode mode = LoadMode::kAuto;
  /// "cpu" or the detected backend's name; empty: the detected one.
  std::optional<std::string> backend;
  /// Compare the devices of this machine with the archs of the package.
  bool check_arch = true;
  /// Cache only; also implied by HF_HUB_OFFLINE.
  bool local_files_only = false;
  trust::TrustRemoteCode trust_remote_code;
  /// kernels.lock to take the commit from; empty: none is consulted.
  std::filesystem::path lockfile;
  ProgressObserver* progress = nullptr;
  /// Settings; unset: Config::from_env() at the call.
  std::optional<Config> config;
  /// Called with the metadata before any other file is fetched; throws to refuse the package.
  std::function<void(const Metadata&)> check_metadata;
  /// Facts to resolve for; unset: system().
  std::optional<SystemInfo> system;
};

/// Where a variant lies on disk after the steps before loading, and why it was chosen.
struct InstalledKernel {
  std::filesystem::path directory;
  std::string variant;
  std::optional<RepoId> repo;
  std::optional<CommitHash> commit;
  std::vector<VariantDecision> trace;
};

/// Resolve, verify, load. Blocks on network, disk and dlopen; any thread. A kernel that is loaded
/// already costs one refs request by version and none by commit.
/// Throws HubError, TrustError, LoadError; kInvalidArgument unless exactly one of version and
/// revision is given; kNoCompatibleVariant with the full trace in details().
KERNELHUB_API Kernel get_kernel(std::string_view repo, const KernelSpec& spec,
                                const LoadOptions& options = {});
/// `path`: repository, its build/ folder, or one variant directory. The caller vouches for it.
KERNELHUB_API Kernel get_local_kernel(const std::filesystem::path& path,
                                      const LoadOptions& options = {});
KERNELHUB_API Result<Kernel> try_get_kernel(std::string_view repo, const KernelSpec& spec,
                                            const LoadOptions& options = {});
KERNELHUB_API Result<Kernel> try_get_local_kernel(const std::filesystem::path& path,
                                                  const LoadOptions& options = {});
/// Resolves only: false for "no fitting variant", "not cached offline" and an arch mismatch; every
/// other failure throws.
KERNELHUB_API bool has_kernel(std::string_view repo, const KernelSpec& spec,
                              const LoadOptions& options = {});
/// Steps 1-9 and the byte verification of step 10, without loading.
KERNELHUB_API InstalledKernel install_kernel(std::string_view repo, const KernelSpec& spec,
                                             const LoadOptions& options = {});
/// install_kernel for every variant of the commit, fitting this process or not.
KERNELHUB_API std::vector<InstalledKernel> install_all_variants(std::string_view repo,
                                                                const KernelSpec& spec,
                                                                const LoadOptions& options = {});
/// Decisions for all variants, compatible first, best first; no trust check, no file fetched.
KERNELHUB_API std::vector<VariantDecision> get_kernel_variants(std::string_view repo,
                                                               const KernelSpec& spec,
                                                               const LoadOptions& options = {});
/// Steps 1-10: the verified bytes, for callers that execute them by other means (the Python
/// importer). `trace` receives the decisions.
KERNELHUB_API trust::VerifiedPackage get_verified_package(std::string_view repo,
                                                          const KernelSpec& spec,
                                                          const LoadOptions& options,
                                                          std::vector<VariantDecision>* trace);
KERNELHUB_API trust::VerifiedPackage get_verified_local_package(
    const std::filesystem::path& path, const LoadOptions& options,
    std::vector<VariantDecision>* trace);
/// Appends the audit line of a package that the caller executed itself after
/// get_verified_package; get_kernel and get_local_kernel do it on their own.
KERNELHUB_API void audit_load(const trust::VerifiedPackage& package, std::string_view load_mode,
                              double milliseconds, const LoadOptions& options = {});

}  // namespace kernelhub
