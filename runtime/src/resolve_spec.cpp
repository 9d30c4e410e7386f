// SPDX-License-Identifier: Apache-2.0
#include "resolve_spec.h"

#include "runtime_errors.h"

#include "kernelhub/loader/system.h"

#include <mutex>
#include <unistd.h>

namespace kernelhub {

Backend choose_backend(const std::optional<std::string>& asked, const SystemInfo& system) {
  if (!asked || asked->empty() || *asked == backend_name(system.backend.kind)) {
    return system.backend;
  }
  if (*asked == backend_name(BackendKind::kCpu)) return Backend{};
  throw runtime_errors::invalid_backend(*asked, system.backend);
}

Request make_request(std::string_view repo, const KernelSpec& spec, const LoadOptions& options,
                     NoarchRule noarch) {
  spec.validate();
  RepoId id = RepoId::parse(repo);
  Config config = options.config ? *options.config : Config::from_env();
  config.offline = config.offline || options.local_files_only;
  SystemInfo system = options.system ? *options.system : kernelhub::system();
  const Backend backend = choose_backend(options.backend, system);
  return {std::move(id), spec, options, std::move(config), std::move(system), backend, noarch};
}

std::optional<std::filesystem::path> find_override(const Request& request) {
  const auto& overrides = request.config.local_kernels;
  const auto found = overrides.find(request.repo.str());
  if (found == overrides.end()) return std::nullopt;
  return found->second;
}

std::optional<LockedKernel> find_lock(const Request& request) {
  if (request.options.lockfile.empty()) return std::nullopt;
  const Lockfile lockfile = Lockfile::read(request.options.lockfile);
  const LockedKernel* entry = lockfile.find(request.repo);
  if (entry == nullptr) throw runtime_errors::not_locked(request.repo, request.options.lockfile);
  return *entry;
}

std::shared_ptr<hub::Client> shared_client(const Config& config) {
  struct Kept {
    std::mutex mutex;
    pid_t process = 0;
    std::string key;
    std::shared_ptr<hub::Client> client;
  };
  // Never destroyed: calls may come from static destructors of the program.
  static Kept& kept = *new Kept;
  std::string key =
      config.endpoint + '\n' + config.cache_dir.string() + '\n' + config.token.reveal() + '\n' +
      (config.offline ? '1' : '0') + '\n' + config.http_proxy + '\n' + config.https_proxy + '\n' +
      config.ca_file.string() + '\n' + std::to_string(config.retries) + '\n' +
      std::to_string(config.max_workers) + '\n' + std::to_string(config.metadata_timeout.count()) +
      '\n' + std::to_string(config.idle_timeout.count()) + '\n' +
      (config.disable_symlinks ? '1' : '0') + (config.telemetry ? '1' : '0') +
      (config.implicit_token ? '1' : '0') + config.user_agent_origin + '\n' + config.user_agent;
  const std::lock_guard lock(kept.mutex);
  if (kept.process != getpid() && kept.client) {
    // The threads of this client are the parent's: it can neither be used nor destroyed here.
    new std::shared_ptr<hub::Client>(std::move(kept.client));
  }
  if (kept.key != key || !kept.client) {
    kept.client = std::make_shared<hub::Client>(config);
    kept.key = std::move(key);
    kept.process = getpid();
  }
  return kept.client;
}

}  // namespace kernelhub
