// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/core/repo.h"
#include "kernelhub/trust/policy.h"

#include <filesystem>
#include <optional>
#include <string>
#include <variant>

namespace kernelhub {

struct LayerRepositoryOptions {
  trust::TrustRemoteCode trust_remote_code;
  /// As LoadOptions::backend; empty: cpu first for device type cpu, else the detected one.
  std::optional<std::string> backend;
};

/// Where a layer comes from: a package and the name of the layer in it. A cheap value; nothing is
/// read until kernelize needs it.
class KERNELHUB_API LayerRepository {
 public:
  struct Hub {
    RepoId repo;
    KernelSpec spec;
  };
  struct Local {
    std::filesystem::path path;  // repository, its build/ or one variant
  };
  struct Locked {
    RepoId repo;
    std::filesystem::path lockfile;
  };

  /// Throws kInvalidRepoId; kInvalidArgument unless exactly one of version and revision is set.
  static LayerRepository hub(std::string_view repo, std::string layer, KernelSpec spec,
                             LayerRepositoryOptions options = {});
  static LayerRepository local(std::filesystem::path path, std::string layer,
                               LayerRepositoryOptions options = {});
  /// The commit comes from `lockfile`, which is read when the layer is loaded.
  static LayerRepository locked(std::string_view repo, std::string layer,
                                std::filesystem::path lockfile,
                                LayerRepositoryOptions options = {});

  const std::variant<Hub, Local, Locked>& source() const noexcept { return source_; }
  const std::string& layer() const noexcept { return layer_; }
  const LayerRepositoryOptions& options() const noexcept { return options_; }
  /// The package without the layer: "org/name@v1", "org/name@kernels.lock" or the path. Equal text
  /// and options mean the same package.
  std::string package_str() const;

 private:
  LayerRepository(std::variant<Hub, Local, Locked> source, std::string layer,
                  LayerRepositoryOptions options)
      : source_(std::move(source)), layer_(std::move(layer)), options_(std::move(options)) {}
  std::variant<Hub, Local, Locked> source_;
  std::string layer_;
  LayerRepositoryOptions options_;
};

}  // namespace kernelhub
