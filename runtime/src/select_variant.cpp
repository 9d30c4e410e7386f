// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/select_variant.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace kernelhub {
namespace {

constexpr std::string_view kUniversal = "universal";

// The peer's names differ from the backend's in one noarch case only.
std::string noarch_name(BackendKind kind) {
  return kind == BackendKind::kCann ? "npu" : std::string(backend_name(kind));
}

std::string torch_of(const SystemInfo& system) {
  return system.torch ? "this process has torch " + system.torch->str()
                      : std::string("this process has no torch");
}

struct FrameworkMismatch {
  const SystemInfo& system;

  std::string operator()(const TorchFramework& torch) const {
    if (!system.torch || *system.torch != torch.version) {
      return fmt::format("built for torch {}, {}", torch.version.str(), torch_of(system));
    }
    if (!torch.cxx_abi) return {};
    if (!system.torch_cxx11_abi) {
      return fmt::format("built for the {} ABI, torch's ABI is unknown", *torch.cxx_abi);
    }
    const std::string_view own = *system.torch_cxx11_abi ? "cxx11" : "cxx98";
    if (*torch.cxx_abi == own) return {};
    return fmt::format("built for the {} ABI, torch here has {}", *torch.cxx_abi, own);
  }
  std::string operator()(const TorchStableFramework& stable) const {
    if (system.torch && !(*system.torch < stable.abi)) return {};
    return fmt::format("needs torch's stable ABI {} or newer, {}", stable.abi.str(),
                       torch_of(system));
  }
  std::string operator()(const TvmFfiFramework& tvm) const {
    if (system.tvm_ffi && *system.tvm_ffi == tvm.version) return {};
    return fmt::format("built for tvm-ffi {}, here is {}", tvm.version.str(),
                       system.tvm_ffi ? system.tvm_ffi->str() : "none");
  }
  std::string operator()(const NoarchFramework&) const { return {}; }
};

std::string backend_mismatch(const Backend& wanted, const Backend& running) {
  if (wanted.kind == BackendKind::kCuda && running.kind == BackendKind::kCuda && wanted.version &&
      running.version) {
    if (wanted.version->major != running.version->major) {
      return fmt::format("built for CUDA {}, another major than {}", wanted.version->str(),
                         running.version->str());
    }
    if (running.version->minor < wanted.version->minor) {
      return fmt::format("built for CUDA {}, newer than {}", wanted.version->str(),
                         running.version->str());
    }
    return {};
  }
  if (wanted.compute_name() == running.compute_name()) return {};
  return fmt::format("built for {}, selected backend is {}", wanted.compute_name(),
                     running.compute_name());
}

std::string rejection(const Variant& variant, const SystemInfo& system, const Backend& backend,
                      NoarchRule noarch) {
  if (const auto* any = std::get_if<NoarchFramework>(&variant.framework())) {
    if (any->name.empty()) return "its name has no backend";
    if (any->name != noarch_name(backend.kind) && any->name != kUniversal) {
      return fmt::format("made for {}, selected backend is {}", any->name,
                         noarch_name(backend.kind));
    }
    return noarch == NoarchRule::kRejectPythonOnly
               ? "python-only: has no binary, load it from Python"
               : std::string();
  }
  if (variant.cpu() != system.cpu) {
    return fmt::format("built for {}, this machine is {}", variant.cpu(), system.cpu);
  }
  if (variant.os() != system.os) {
    return fmt::format("built for {}, this system is {}", variant.os(), system.os);
  }
  if (auto reason = std::visit(FrameworkMismatch{system}, variant.framework()); !reason.empty()) {
    return reason;
  }
  return backend_mismatch(*variant.backend(), backend);
}

// Preference of package spec 2.4; ties are broken by framework, then by name.
using Rank = std::tuple<int, int, int, int, int>;

struct RankOf {
  int backend_minor;
  Rank operator()(const TorchStableFramework& stable) const {
    return {0, -stable.abi.major, -stable.abi.minor, -backend_minor, 0};
  }
  Rank operator()(const TorchFramework& torch) const {
    return {1, 0, torch.cxx_abi ? 1 : 0, -backend_minor, 0};
  }
  Rank operator()(const TvmFfiFramework&) const { return {2, 0, 0, -backend_minor, 0}; }
  Rank operator()(const NoarchFramework& any) const {
    return {2, 0, 0, any.name == kUniversal ? 1 : 0, 1};
  }
};

Rank rank_of(const Variant& variant) {
  const bool versioned = variant.backend() && variant.backend()->version;
  return std::visit(RankOf{versioned ? variant.backend()->version->minor : 0}, variant.framework());
}

}  // namespace

VariantChoice select_variant(const std::vector<std::string>& names, const SystemInfo& system,
                             const Backend& backend, NoarchRule noarch) {
  struct Judged {
    Rank rank;
    VariantDecision decision;
  };
  std::vector<Judged> judged;
  for (const std::string& name : names) {
    const auto variant = Variant::parse(name);
    if (!variant) continue;
    std::string reason = rejection(*variant, system, backend, noarch);
    const bool accepted = reason.empty();
    judged.push_back({rank_of(*variant), {name, accepted, std::move(reason)}});
  }
  std::sort(judged.begin(), judged.end(), [](const Judged& a, const Judged& b) {
    return std::tie(b.decision.accepted, a.rank, a.decision.variant) <
           std::tie(a.decision.accepted, b.rank, b.decision.variant);
  });
  VariantChoice choice;
  for (Judged& entry : judged) choice.decisions.push_back(std::move(entry.decision));
  if (!choice.decisions.empty() && choice.decisions.front().accepted) {
    choice.chosen = choice.decisions.front().variant;
  }
  return choice;
}

}  // namespace kernelhub
