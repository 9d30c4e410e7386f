// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/lockfile.h"
#include "kernelhub/get_kernel.h"
#include "kernelhub/hub/client.h"
#include "kernelhub/select_variant.h"

#include <memory>
#include <optional>

namespace kernelhub {

/// What a call needs, settled before any I/O on the repository.
struct Request {
  RepoId repo;
  KernelSpec spec;
  LoadOptions options;
  Config config;
  SystemInfo system;
  Backend backend;
  NoarchRule noarch;
};

Request make_request(std::string_view repo, const KernelSpec& spec, const LoadOptions& options,
                     NoarchRule noarch);
/// Backend by name: "cpu" or the detected one; throws kInvalidBackend.
Backend choose_backend(const std::optional<std::string>& asked, const SystemInfo& system);
/// LOCAL_KERNELS entry of this repository.
std::optional<std::filesystem::path> find_override(const Request& request);
/// Entry of options.lockfile; throws kNotLocked when the file has none for the repository.
std::optional<LockedKernel> find_lock(const Request& request);
/// One client per process for equal settings, so that connections are reused; never shared with a
/// forked child.
std::shared_ptr<hub::Client> shared_client(const Config& config);

}  // namespace kernelhub
