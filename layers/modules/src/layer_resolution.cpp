// SPDX-License-Identifier: Apache-2.0
#include "layer_resolution.h"

#include "kernelhub/core/lockfile.h"
#include "kernelhub/get_kernel.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <thread>
#include <utility>

namespace kernelhub::layers {
namespace {

Kernel load(const LayerRepository& repository, const LoadOptions& options) {
  if (const auto* hub = std::get_if<LayerRepository::Hub>(&repository.source())) {
    return get_kernel(hub->repo.str(), hub->spec, options);
  }
  if (const auto* local = std::get_if<LayerRepository::Local>(&repository.source())) {
    return get_local_kernel(local->path, options);
  }
  const auto& locked = std::get<LayerRepository::Locked>(repository.source());
  const Lockfile lockfile = Lockfile::read(locked.lockfile);
  const LockedKernel* entry = lockfile.find(locked.repo);
  if (entry == nullptr) {
    throw Error(ErrorCode::kNotLocked,
                fmt::format("{} is not locked in {}", locked.repo.str(), locked.lockfile.string()));
  }
  LoadOptions with_lock = options;
  with_lock.lockfile = locked.lockfile;
  return get_kernel(locked.repo.str(), entry->spec, with_lock);
}

bool nothing_fits(ErrorCode code) {
  return code == ErrorCode::kNoCompatibleVariant || code == ErrorCode::kNoKernelBuilds ||
         code == ErrorCode::kOfflineMiss;
}

/// A build for the cpu serves a model on the cpu best, even where torch itself has CUDA.
Kernel load_for_device(const LayerRepository& repository, std::string_view device_type) {
  LoadOptions options;
  options.trust_remote_code = repository.options().trust_remote_code;
  options.backend = repository.options().backend;
  if (options.backend || device_type != "cpu") return load(repository, options);
  options.backend = "cpu";
  try {
    return load(repository, options);
  } catch (const Error& error) {
    if (!nothing_fits(error.code())) throw;
  }
  options.backend.reset();
  return load(repository, options);
}

LoadedLayers load_layers(const LayerRepository& repository, std::string_view device_type) {
  Kernel kernel = load_for_device(repository, device_type);
  const PackageInfo& info = kernel.package().info();
  LoadedLayers loaded{kernel,
                      fmt::format("{} {}", repository.package_str(), info.origin.variant),
                      info.origin.commit ? info.origin.commit->str() : std::string(),
                      {}};
  if (info.framework == PackageInfo::Framework::kTorch && info.metadata.kernelhub) {
    loaded.bindings = parse_layer_bindings(info.metadata.kernelhub->layers_json, loaded.source);
  }
  return loaded;
}

}  // namespace

std::string package_key(const LayerRepository& repository) {
  const LayerRepositoryOptions& options = repository.options();
  return fmt::format("{}\n{}\n{}\n{}", repository.package_str(), options.backend.value_or(""),
                     options.trust_remote_code.all,
                     fmt::join(options.trust_remote_code.repos, ","));
}

std::map<std::string, PackageResult> load_packages(const std::vector<LayerRepository>& repositories,
                                                   std::string_view device_type) {
  std::map<std::string, PackageResult> results;
  std::vector<std::jthread> threads;
  for (const LayerRepository& repository : repositories) {
    const auto [entry, is_new] = results.try_emplace(package_key(repository));
    if (!is_new) continue;
    PackageResult& result = entry->second;
    threads.emplace_back([&result, &repository, device_type] {
      try {
        result.layers = load_layers(repository, device_type);
      } catch (...) {
        result.failure = std::current_exception();
      }
    });
  }
  threads.clear();  // joins
  return results;
}

}  // namespace kernelhub::layers
