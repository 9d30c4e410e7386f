// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/builder/build_plan.h"

#include "builder_errors.h"
#include "cuda_archs.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace kernelhub::builder {
namespace {

/// Decides one (framework, backend) pair at a time; a `skip` carries the reason as a value.
class Planner {
 public:
  Planner(const BuildToml& project, const Toolchain& tools, const std::string& uid,
          const PlanFilter& filter)
      : project_(project), tools_(tools), uid_(uid), filter_(filter) {}

  BuildPlan plan() && {
    for (BackendKind kind : project_.backends) {
      if (filter_.backend && *filter_.backend != kind) {
        skip(fmt::format("variants for {}", backend_name(kind)),
             fmt::format("--backend is {}", backend_name(*filter_.backend)));
        continue;
      }
      if (project_.noarch) add_noarch(kind);
      if (project_.torch) add_torch(kind);
      if (project_.tvm_ffi) add_tvm_ffi(kind);
    }
    return std::move(plan_);
  }

 private:
  std::string id(BackendKind kind) const {
    return fmt::format("_{}_{}_{}", python_name(project_.name), backend_name(kind), uid_);
  }

  void skip(std::string what, std::string reason) {
    plan_.skipped.push_back({std::move(what), std::move(reason)});
  }

  void add(VariantPlan variant) {
    if (filter_.variant && *filter_.variant != variant.variant) {
      return skip(variant.variant, "--variant names another one");
    }
    plan_.variants.push_back(std::move(variant));
  }

  void add_noarch(BackendKind kind) {
    VariantPlan variant;
    variant.backend = kind;
    variant.variant = fmt::format(
        "torch-{}", kind == BackendKind::kCann ? "npu" : std::string(backend_name(kind)));
    variant.id = id(kind);
    if (project_.noarch && kind == BackendKind::kCuda) {
      variant.archs = project_.noarch->cuda_capabilities;
    }
    if (project_.noarch && kind == BackendKind::kRocm) variant.archs = project_.noarch->rocm_archs;
    std::sort(variant.archs.begin(), variant.archs.end());
    add(std::move(variant));
  }

  bool has_component(BackendKind kind) const {
    return std::any_of(project_.components.begin(), project_.components.end(),
                       [&](const Component& component) { return component.backend == kind; });
  }

  /// "cpu", "cu130"; nothing (after skip()) for what cannot be built or named here.
  std::optional<std::string> compute_name(BackendKind kind, std::string_view framework,
                                          const std::optional<MajorMinor>& cuda) {
    const std::string what = fmt::format("{} for {}", framework, backend_name(kind));
    if (kind == BackendKind::kCpu) return "cpu";
    if (kind != BackendKind::kCuda) {
      skip(what, fmt::format("no {} compiler support in this builder", backend_name(kind)));
      return std::nullopt;
    }
    if (!tools_.nvcc) {
      skip(what, "nvcc is not on PATH");
      return std::nullopt;
    }
    const MajorMinor toolkit = cuda.value_or(tools_.nvcc->version);
    if (toolkit != tools_.nvcc->version) {
      skip(what, fmt::format("nvcc is {}, torch was built with {}", tools_.nvcc->version.str(),
                             toolkit.str()));
      return std::nullopt;
    }
    if (!project_.cuda_toolkits.contains(toolkit)) {
      skip(what, fmt::format("the toolkit is {}, general.cuda allows {}", toolkit.str(),
                             project_.cuda_toolkits.str()));
      return std::nullopt;
    }
    if (toolkit.minor > 9) {
      skip(what, fmt::format("a variant name cannot express toolkit {}", toolkit.str()));
      return std::nullopt;
    }
    return Backend{kind, toolkit}.compute_name();
  }

  void add_torch(BackendKind kind) {
    if (!has_component(kind)) return add_noarch(kind);
    const std::string what = fmt::format("torch for {}", backend_name(kind));
    if (!tools_.torch) {
      return skip(what, "torch not found; pass --torch PREFIX or --python with torch");
    }
    const Toolchain::Torch& torch = *tools_.torch;
    if (kind == BackendKind::kCuda && !torch.cuda) {
      return skip(what, fmt::format("torch {} is built without CUDA", torch.full_version));
    }
    if (!project_.torch->versions.contains(torch.version)) {
      return skip(what, fmt::format("torch is {}, build.toml allows {}", torch.version.str(),
                                    project_.torch->versions.str()));
    }
    const std::optional<std::string> compute =
        compute_name(kind, "torch", kind == BackendKind::kCuda ? torch.cuda : std::nullopt);
    if (!compute) return;
    VariantPlan variant;
    const auto abi = project_.torch->stable_abi.find(kind);
    if (abi != project_.torch->stable_abi.end()) {
      if (torch.version < abi->second) {
        return skip(what, fmt::format("stable ABI {} needs torch {}, found {}", abi->second.str(),
                                      abi->second.str(), torch.version.str()));
      }
      variant.framework = FrameworkKind::kTorchStable;
      variant.stable_abi = abi->second;
      variant.variant = fmt::format("torch-stable-abi{}{}-{}-{}-linux", abi->second.major,
                                    abi->second.minor, *compute, tools_.cpu);
    } else {
      variant.framework = FrameworkKind::kTorch;
      variant.variant = fmt::format("torch{}{}-cxx11-{}-{}-linux", torch.version.major,
                                    torch.version.minor, *compute, tools_.cpu);
    }
    add_compiled(std::move(variant), kind);
  }

  void add_tvm_ffi(BackendKind kind) {
    const std::optional<std::string> compute = compute_name(kind, "tvm-ffi", std::nullopt);
    if (!compute) return;
    // Without an installed tvm-ffi: the version of the C ABI that abi/package.h describes.
    const MajorMinor version = tools_.tvm_ffi ? tools_.tvm_ffi->version : MajorMinor{0, 1};
    VariantPlan variant;
    variant.framework = FrameworkKind::kTvmFfi;
    variant.variant =
        fmt::format("tvm-ffi{}{}-{}-{}-linux", version.major, version.minor, *compute, tools_.cpu);
    add_compiled(std::move(variant), kind);
  }

  void add_compiled(VariantPlan variant, BackendKind kind) {
    variant.backend = kind;
    variant.id = id(kind);
    std::set<std::string> archs;
    for (const Component& component : project_.components) {
      if (component.backend != kind) continue;
      if (!is_wanted(component)) continue;
      if (variant.framework == FrameworkKind::kTvmFfi && component.depends_on("torch")) continue;
      if (component.cuda_minver && tools_.nvcc->version < *component.cuda_minver) continue;
      variant.components.push_back(&component);
      if (kind != BackendKind::kCuda) continue;
      variant.component_archs.push_back(archs_of(component));
      archs.insert(variant.component_archs.back().begin(), variant.component_archs.back().end());
    }
    variant.archs.assign(archs.begin(), archs.end());
    if (variant.components.empty()) {
      return skip(variant.variant, fmt::format("no component for {} is left", backend_name(kind)));
    }
    add(std::move(variant));
  }

  bool is_wanted(const Component& component) const {
    return filter_.components.empty() ||
           std::count(filter_.components.begin(), filter_.components.end(), component.name) != 0;
  }

  std::vector<std::string> archs_of(const Component& component) const {
    const bool keeps_own = filter_.archs.empty() || is_of_one_chip(component);
    const std::vector<std::string>& wanted =
        keeps_own ? component.cuda_capabilities : filter_.archs;
    const std::vector<CudaArch> chosen = select_cuda_archs(tools_.nvcc->version, wanted);
    if (chosen.empty()) {
      std::vector<std::string> supported;
      for (const CudaArch& arch : supported_cuda_archs(tools_.nvcc->version)) {
        supported.push_back(arch.str());
      }
      throw builder_errors::no_common_archs(component.name, wanted, supported);
    }
    std::vector<std::string> archs;
    for (const CudaArch& arch : chosen) archs.push_back(arch.str());
    return archs;
  }

  static bool is_of_one_chip(const Component& component) {
    const std::vector<std::string>& own = component.cuda_capabilities;
    return !own.empty() && std::all_of(own.begin(), own.end(), [](const std::string& text) {
      const std::optional<CudaArch> arch = CudaArch::parse(text);
      return arch && arch->suffix != 0;
    });
  }

  const BuildToml& project_;
  const Toolchain& tools_;
  const std::string& uid_;
  const PlanFilter& filter_;
  BuildPlan plan_;
};

}  // namespace

std::string VariantPlan::binary() const {
  switch (framework) {
    case FrameworkKind::kTorch:
    case FrameworkKind::kTorchStable:
      return id + ".abi3.so";
    case FrameworkKind::kTvmFfi:
      return id + ".so";
    case FrameworkKind::kNoarch:
      break;
  }
  return {};
}

BuildPlan plan_build(const BuildToml& project, const Toolchain& tools, const std::string& uid,
                     const PlanFilter& filter) {
  return Planner(project, tools, uid, filter).plan();
}

}  // namespace kernelhub::builder
