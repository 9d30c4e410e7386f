// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/layers/kernelize.h"

#include "binding_plan.h"
#include "layer_resolution.h"
#include "modules_errors.h"

#include "kernelhub/core/log.h"
#include "kernelhub/layers/kernel_function.h"
#include "kernelhub/layers/kernel_mapping.h"
#include "kernelhub/layers/replaceable.h"
#include "kernelhub/loader/system.h"

#include <torch/nn/module.h>

#include <map>
#include <memory>
#include <set>
#include <utility>
#include <variant>

namespace kernelhub {
namespace {

using layers::BindingPlan;
using layers::GuardFailure;
using layers::LoadedLayers;
using layers::PackageResult;
namespace modules_errors = layers::modules_errors;

struct DeviceInUse {
  std::string type;
  std::optional<int> capability;
};

/// What kernelize has decided for one module; the model is touched only when all are decided.
struct LayerPlan {
  Swappable* layer = nullptr;
  LayerOutcome outcome;
  std::optional<LayerChoice> choice;
  std::shared_ptr<const BindingPlan> plan;
  ModuleInputs inputs;
};

struct Request {
  Mode mode;
  DeviceInUse device;
  KernelizeFallback fallback;
};

std::string type_of(const at::Device& device) {
  if (device.is_cuda()) return system().backend.kind == BackendKind::kRocm ? "rocm" : "cuda";
  return c10::DeviceTypeName(device.type(), /*lower_case=*/true);
}

std::optional<int> capability_of(const std::string& type, std::size_t index) {
  const std::vector<MajorMinor>& devices = system().cuda_devices;
  if (type != "cuda" || index >= devices.size()) return {};
  return devices[index].major * 10 + devices[index].minor;
}

DeviceInUse device_in_use(const torch::nn::Module& model,
                          const std::optional<std::string>& device) {
  const std::vector<at::Tensor> parameters = model.parameters();
  if (!device && parameters.empty()) throw modules_errors::no_model_device();
  const std::string type = device ? Device(*device).type() : type_of(parameters[0].device());
  std::size_t index = 0;
  if (!parameters.empty() && parameters[0].is_cuda() && parameters[0].get_device() > 0) {
    index = static_cast<std::size_t>(parameters[0].get_device());
  }
  return {type, capability_of(type, index)};
}

/// Functions and marked modules below and including the model, each once, under its first path;
/// a module's functions before the module itself.
std::vector<LayerPlan> marked_layers(torch::nn::Module& model) {
  std::vector<LayerPlan> plans;
  std::set<const Swappable*> seen;
  const auto add_layer = [&](Swappable* layer, const std::string& path) {
    if (layer == nullptr || !seen.insert(layer).second) return;
    LayerPlan plan;
    plan.layer = layer;
    plan.outcome.path = path;
    plan.outcome.layer_name = layer->kernel_layer_name();
    plans.push_back(std::move(plan));
  };
  const auto add = [&](torch::nn::Module& module, const std::string& path) {
    if (auto* owner = dynamic_cast<KernelFunctionOwner*>(&module)) {
      for (Swappable* function : owner->kernel_functions()) {
        const std::string name(function->kernel_layer_name());
        add_layer(function, path.empty() ? name : path + "." + name);
      }
    }
    add_layer(dynamic_cast<Swappable*>(&module), path);
  };
  add(model, "");
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    add(*item.value(), item.key());
  }
  return plans;
}

KernelizeFallback flag_of(LookupMiss miss) {
  switch (miss) {
    case LookupMiss::kNoLayer:
      return KernelizeFallback::kNoLayer;
    case LookupMiss::kNoDevice:
      return KernelizeFallback::kNoDevice;
    case LookupMiss::kNoCompatibleProperties:
      return KernelizeFallback::kNoCompatibleProperties;
    case LookupMiss::kNoCompatibleMode:
      break;
  }
  return KernelizeFallback::kNoCompatibleMode;
}

/// Keeps the module's own forward because of `error`, where `flag` allows that.
void fall_back(LayerPlan& plan, const LayerError& error, KernelizeFallback flag,
               KernelizeFallback allowed) {
  if (!contains(allowed, flag)) throw error;
  plan.outcome.reason = error.what();
}

void look_up(LayerPlan& plan, const Request& request) {
  if (!plan.layer->kernel_condition()) {
    plan.outcome.reason = "the module's own condition keeps it on its forward";
    return;
  }
  const std::string& name = plan.outcome.layer_name;
  const auto found =
      find_layer_repository(name, request.device.type, request.device.capability, request.mode);
  if (const auto* choice = std::get_if<LayerChoice>(&found)) {
    plan.choice = *choice;
    return;
  }
  const LookupMiss miss = std::get<LookupMiss>(found);
  const LayerError error =
      modules_errors::lookup_missed(miss, name, request.device.type, request.mode);
  if (miss == LookupMiss::kNoLayer) warn_once("layers.unmapped:" + name, error.what());
  fall_back(plan, error, flag_of(miss), request.fallback);
}

/// Failures of loading that CANNOT_LOAD covers: nothing fits, or nothing is cached offline.
bool is_cannot_load(ErrorCode code) {
  return code == ErrorCode::kNoCompatibleVariant || code == ErrorCode::kNoKernelBuilds ||
         code == ErrorCode::kOfflineMiss || code == ErrorCode::kEntryNotFound;
}

/// The package of the plan's choice; null when it may be left out.
const LoadedLayers* package_of(LayerPlan& plan, const PackageResult& result,
                               KernelizeFallback allowed) {
  if (result.layers) return &*result.layers;
  try {
    std::rethrow_exception(result.failure);
  } catch (const Error& error) {
    const bool covered = contains(allowed, KernelizeFallback::kCannotLoad);
    if (!covered || !is_cannot_load(error.code())) throw;
    plan.outcome.reason = error.what();
  }
  return nullptr;
}

std::vector<std::string> names_of(const std::map<std::string, LayerBinding>& bindings) {
  std::vector<std::string> names;
  for (const auto& [name, binding] : bindings) names.push_back(name);
  return names;
}

/// Plans of one call of kernelize, one per package and layer.
class PlanCache {
 public:
  const std::shared_ptr<const BindingPlan>& get(const LoadedLayers& package,
                                                const LayerBinding& binding,
                                                GuardFailure on_guard) {
    auto& plan = plans_[{&package, binding.layer}];
    if (!plan)
      plan = BindingPlan::make(package.kernel.package(), binding, package.source, on_guard);
    return plan;
  }

 private:
  std::map<std::pair<const LoadedLayers*, std::string>, std::shared_ptr<const BindingPlan>> plans_;
};

void plan_layer(LayerPlan& plan, const LoadedLayers& package, const Request& request,
                PlanCache& cache) {
  const std::string& layer = plan.choice->repository.layer();
  plan.outcome.source = package.source;
  plan.outcome.commit = package.commit;
  const auto binding = package.bindings.find(layer);
  if (binding == package.bindings.end()) {
    // No flag of the Python client covers this: only C++ has packages without native layers.
    const LayerError error =
        modules_errors::no_native_layer(package.source, layer, names_of(package.bindings));
    if (request.fallback == KernelizeFallback::kNone) throw error;
    warn_once("layers.native:" + package.source + layer, error.what());
    plan.outcome.reason = error.what();
    return;
  }
  const bool strict = request.fallback == KernelizeFallback::kNone;
  const auto made = cache.get(package, binding->second,
                              strict ? GuardFailure::kThrow : GuardFailure::kRunReference);
  const LayerAbilities abilities = made->abilities();
  switch (judge_mode(plan.choice->entry_mode, request.mode, abilities)) {
    case ModeVerdict::kUse:
      break;
    case ModeVerdict::kBrokenPromise:
      throw modules_errors::broken_promise(package.source, layer, plan.choice->entry_mode,
                                           abilities.can_torch_compile, abilities.has_backward);
    case ModeVerdict::kKeepOriginal:
      fall_back(plan, modules_errors::mode_unsupported(package.source, layer, request.mode),
                KernelizeFallback::kNoCompatibleMode, request.fallback);
      return;
  }
  made->require_signature(plan.layer->signature());
  plan.inputs = made->inputs_of(*plan.layer);
  plan.plan = made;
}

std::vector<LayerRepository> chosen_repositories(const std::vector<LayerPlan>& plans) {
  std::vector<LayerRepository> repositories;
  for (const LayerPlan& plan : plans) {
    if (plan.choice) repositories.push_back(plan.choice->repository);
  }
  return repositories;
}

/// Cannot fail: everything that could was done before.
std::vector<LayerOutcome> fill_slots(std::vector<LayerPlan> plans) {
  std::vector<LayerOutcome> outcomes;
  outcomes.reserve(plans.size());
  for (LayerPlan& plan : plans) {
    plan.outcome.swapped = plan.plan != nullptr;
    if (plan.plan) {
      plan.layer->bind(std::move(plan.plan), std::move(plan.inputs));
    } else {
      plan.layer->unbind();
    }
    outcomes.push_back(std::move(plan.outcome));
  }
  return outcomes;
}

}  // namespace

std::vector<LayerOutcome> kernelize(torch::nn::Module& model, Mode mode,
                                    const std::optional<std::string>& device,
                                    KernelizeFallback fallback) {
  require_kernelize_mode(mode);
  const Request request{mode, device_in_use(model, device), fallback};
  std::vector<LayerPlan> plans = marked_layers(model);
  for (LayerPlan& plan : plans) look_up(plan, request);
  const std::vector<LayerRepository> repositories = chosen_repositories(plans);
  const auto packages = layers::load_packages(repositories, request.device.type);
  PlanCache cache;
  for (LayerPlan& plan : plans) {
    if (!plan.choice) continue;
    const PackageResult& result = packages.at(layers::package_key(plan.choice->repository));
    if (const LoadedLayers* package = package_of(plan, result, fallback)) {
      plan_layer(plan, *package, request, cache);
    }
  }
  return fill_slots(std::move(plans));
}

void unkernelize(torch::nn::Module& model) {
  for (LayerPlan& plan : marked_layers(model)) plan.layer->unbind();
}

}  // namespace kernelhub
