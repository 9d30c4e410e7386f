// SPDX-License-Identifier: Apache-2.0
#include "runtime_errors.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace kernelhub::runtime_errors {
namespace {

nlohmann::json trace_json(const std::vector<VariantDecision>& trace) {
  nlohmann::json out = nlohmann::json::array();
  for (const VariantDecision& decision : trace) {
    out.push_back({{"variant", decision.variant},
                   {"accepted", decision.accepted},
                   {"reason", decision.reason}});
  }
  return out;
}

std::string describe(const SystemInfo& system, const Backend& backend) {
  return fmt::format("{}, {}-{}, torch {}, tvm-ffi {}", backend.compute_name(), system.cpu,
                     system.os, system.torch ? system.torch->str() : "none",
                     system.tvm_ffi ? system.tvm_ffi->str() : "none");
}

}  // namespace

Error no_compatible_variant(const std::string& source, const std::vector<VariantDecision>& trace,
                            const SystemInfo& system, const Backend& backend,
                            std::optional<std::int64_t> version_that_fits) {
  std::string text = fmt::format("Cannot find a build variant of {} for this process ({}):", source,
                                 describe(system, backend));
  for (const VariantDecision& decision : trace) {
    text += fmt::format("\n  {}: {}", decision.variant, decision.reason);
  }
  if (trace.empty()) text += "\n  there are no variants";
  std::string hint =
      version_that_fits
          ? fmt::format("version {} has a build that fits: ask for it", *version_that_fits)
          : "build it from source with 'kernelhub build', or ask its publisher for "
            "this environment";
  const nlohmann::json details = {{"source", source}, {"trace", trace_json(trace)}};
  return LoadError(ErrorCode::kNoCompatibleVariant, text, std::move(hint), details.dump());
}

Error no_variants_at(const std::filesystem::path& path) {
  return LoadError(
      ErrorCode::kNoCompatibleVariant,
      fmt::format("Cannot find a build variant at {}: it holds neither variant "
                  "directories, nor build/, nor metadata.json",
                  path.string()),
      "give the repository, its build/ folder or one variant directory",
      nlohmann::json{{"source", path.string()}, {"trace", nlohmann::json::array()}}.dump());
}

Error invalid_backend(const std::string& asked, const Backend& detected) {
  const std::string name(backend_name(detected.kind));
  return Error(ErrorCode::kInvalidBackend,
               fmt::format("Invalid backend '{}', supported here: {}", asked,
                           name == "cpu" ? "cpu" : "cpu, " + name),
               "use one of the supported names, or leave the backend out",
               nlohmann::json{{"backend", asked}, {"detected", name}}.dump());
}

Error arch_mismatch(const std::string& source, const Metadata& metadata, MajorMinor device) {
  return LoadError(ErrorCode::kArchMismatch,
                   fmt::format("{} has code for {}, the device of this machine has capability {}",
                               source, fmt::join(metadata.archs, ", "), device.str()),
                   "use a build for this device, or switch the test off with check_arch=False",
                   nlohmann::json{{"archs", metadata.archs}, {"device", device.str()}}.dump());
}

Error client_too_old(const std::string& source, const std::string& needed) {
  return LoadError(
      ErrorCode::kClientTooOld,
      fmt::format("{} needs a client of level kernels {} or newer, this one has 0.17.2", source,
                  needed),
      "upgrade kernelhub");
}

Error dependency_unsupported(const std::string& source, const Metadata& metadata) {
  return LoadError(ErrorCode::kDependencyUnsupported,
                   fmt::format("{} depends on the kernel {}, and kernels with kernel-depends are "
                               "not supported by this version",
                               source, metadata.kernel_depends.front().repo.str()),
                   "use a version of the kernel without kernel-depends");
}

Error not_locked(const RepoId& repo, const std::filesystem::path& lockfile) {
  return Error(ErrorCode::kNotLocked,
               fmt::format("kernel {} is not locked in {}", repo.str(), lockfile.string()),
               "add it to the dependencies and write the lock file again");
}

TrustError denied(const trust::Candidate& candidate, const trust::Decision& decision) {
  const std::string what =
      candidate.repo ? fmt::format("{}@{}", candidate.repo->str(),
                                   candidate.commit ? candidate.commit->str() : "unresolved")
                     : candidate.local_path.string();
  std::string text = fmt::format("refused to load {}", what);
  if (!candidate.variant.empty()) text += fmt::format(", variant {}", candidate.variant);
  if (!candidate.endpoint.empty()) text += fmt::format(", from {}", candidate.endpoint);
  text += fmt::format("\nwhy: {}", decision.reason);
  const ErrorCode code = decision.code == error_code_name(ErrorCode::kPublisherUnverifiable)
                             ? ErrorCode::kPublisherUnverifiable
                             : ErrorCode::kTrustDenied;
  const nlohmann::json details = {{"what", what},
                                  {"endpoint", candidate.endpoint},
                                  {"variant", candidate.variant},
                                  {"reason", decision.reason}};
  return TrustError(code, text, decision.remedy, details.dump());
}

}  // namespace kernelhub::runtime_errors
