// SPDX-License-Identifier: Apache-2.0
// The pipeline from a repository id to a callable kernel; the only file that knows all its steps.
#include "kernelhub/get_kernel.h"

#include "check_dependencies.h"
#include "local_kernel.h"
#include "verify_files.h"

#include "kernelhub/hub/snapshot.h"
#include "kernelhub/hub/stop_scope.h"
#include "kernelhub/loader/system.h"

#include <chrono>

namespace kernelhub {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

Kernel load(trust::VerifiedPackage verified, const VariantChoice& choice,
            const LoadOptions& options, const Config& config, const TrustContext& trust,
            Clock::time_point began) {
  const trust::AuditEntry entry = trust::audit_entry_of(verified);
  PackageLoadOptions load_options;
  load_options.mode = options.mode;
  load_options.require_sealed = trust.policy.require_sealed() || verified.needs_sealed();
  load_options.local_evidence = !verified.origin().repo;
  load_options.tvm_ffi_library = config.tvm_ffi_library;
  Kernel kernel(load_package(std::move(verified), load_options), choice.decisions);
  const std::chrono::duration<double, std::milli> elapsed = Clock::now() - began;
  trust.audit.loaded(entry, kernel.package().info().load_mode, elapsed.count());
  return kernel;
}

/// The package that an earlier call verified and loaded from this very commit. A lock digest is
/// compared with bytes, so a locked call never takes this way.
std::optional<Package> find_loaded_from_hub(const ChosenVariant& chosen) {
  if (!chosen.lock_digest.empty()) return std::nullopt;
  const auto cached =
      hub::find_cached_variant(*chosen.client, chosen.pinned, chosen.origin.variant);
  auto package = cached ? find_loaded(cached->directory) : std::nullopt;
  if (!package) return std::nullopt;
  const trust::Origin& loaded = package->info().origin;
  const bool same = loaded.repo && *loaded.repo == chosen.pinned.repo && loaded.commit &&
                    *loaded.commit == chosen.pinned.commit;
  return same ? package : std::nullopt;
}

}  // namespace

Kernel get_kernel(std::string_view repo, const KernelSpec& spec, const LoadOptions& options) {
  const auto began = Clock::now();
  const Request request = make_request(repo, spec, options, NoarchRule::kRejectPythonOnly);
  TrustContext trust(request.config);
  if (const auto local = find_override(request)) {
    VerifiedLocal found =
        verify_local(*local, options, request.system, request.noarch, trust, request.repo);
    return load(std::move(found.package), found.choice, options, request.config, trust, began);
  }
  ChosenVariant chosen = choose_from_hub(request, trust);
  if (options.check_arch) check_arch(chosen.metadata, request.system, source_name(chosen.origin));
  if (const auto package = find_loaded_from_hub(chosen)) {
    remember(request, trust, chosen);
    return Kernel(*package, chosen.choice.decisions);
  }
  const VariantChoice choice = chosen.choice;
  return load(fetch_and_verify(request, trust, std::move(chosen)), choice, options, request.config,
              trust, began);
}

Kernel get_local_kernel(const fs::path& path, const LoadOptions& options) {
  const auto began = Clock::now();
  const Config config = options.config ? *options.config : Config::from_env();
  TrustContext trust(config);
  VerifiedLocal found = verify_local(path, options, options.system ? *options.system : system(),
                                     NoarchRule::kRejectPythonOnly, trust, std::nullopt);
  return load(std::move(found.package), found.choice, options, config, trust, began);
}

Result<Kernel> try_get_kernel(std::string_view repo, const KernelSpec& spec,
                              const LoadOptions& options) {
  return catch_to_result([&] { return get_kernel(repo, spec, options); });
}

Result<Kernel> try_get_local_kernel(const fs::path& path, const LoadOptions& options) {
  return catch_to_result([&] { return get_local_kernel(path, options); });
}

bool has_kernel(std::string_view repo, const KernelSpec& spec, const LoadOptions& options) {
  const Request request = make_request(repo, spec, options, NoarchRule::kAccept);
  TrustContext trust(request.config);
  try {
    if (const auto local = find_override(request)) {
      const LocalVariants found = find_local_variants(*local);
      return select_variant(found.names, request.system, request.backend, request.noarch)
          .chosen.has_value();
    }
    const ChosenVariant chosen = choose_from_hub(request, trust);
    if (options.check_arch) check_arch(chosen.metadata, request.system, source_name(chosen.origin));
    return true;
  } catch (const Error& error) {
    switch (error.code()) {
      case ErrorCode::kNoCompatibleVariant:
      case ErrorCode::kOfflineMiss:
      case ErrorCode::kArchMismatch:
        return false;
      default:
        throw;
    }
  }
}

std::vector<VariantDecision> get_kernel_variants(std::string_view repo, const KernelSpec& spec,
                                                 const LoadOptions& options) {
  const Request request = make_request(repo, spec, options, NoarchRule::kAccept);
  if (const auto local = find_override(request)) {
    return select_variant(find_local_variants(*local).names, request.system, request.backend,
                          request.noarch)
        .decisions;
  }
  const hub::StopScope stop(options.progress);
  const auto client = shared_client(request.config);
  const hub::ResolvedKernel resolved = client->resolve(request.repo, request.spec);
  return select_variant(client->list_variants(request.repo, resolved.pinned.commit), request.system,
                        request.backend, request.noarch)
      .decisions;
}

trust::VerifiedPackage get_verified_package(std::string_view repo, const KernelSpec& spec,
                                            const LoadOptions& options,
                                            std::vector<VariantDecision>* trace) {
  const Request request = make_request(repo, spec, options, NoarchRule::kAccept);
  TrustContext trust(request.config);
  if (const auto local = find_override(request)) {
    VerifiedLocal found =
        verify_local(*local, options, request.system, request.noarch, trust, request.repo);
    if (trace != nullptr) *trace = found.choice.decisions;
    return std::move(found.package);
  }
  ChosenVariant chosen = choose_from_hub(request, trust);
  if (options.check_arch) check_arch(chosen.metadata, request.system, source_name(chosen.origin));
  if (trace != nullptr) *trace = chosen.choice.decisions;
  return fetch_and_verify(request, trust, std::move(chosen));
}

trust::VerifiedPackage get_verified_local_package(const fs::path& path, const LoadOptions& options,
                                                  std::vector<VariantDecision>* trace) {
  TrustContext trust(options.config ? *options.config : Config::from_env());
  VerifiedLocal found = verify_local(path, options, options.system ? *options.system : system(),
                                     NoarchRule::kAccept, trust, std::nullopt);
  if (trace != nullptr) *trace = found.choice.decisions;
  return std::move(found.package);
}

void audit_load(const trust::VerifiedPackage& package, std::string_view load_mode,
                double milliseconds, const LoadOptions& options) {
  const Config config = options.config ? *options.config : Config::from_env();
  TrustContext(config).audit.loaded(trust::audit_entry_of(package), load_mode, milliseconds);
}

}  // namespace kernelhub
