// SPDX-License-Identifier: Apache-2.0
#include "hub_kernels.h"

#include "terminal.h"

#include "kernelhub/get_kernel.h"
#include "kernelhub/torch/op.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/tanh.h>
#include <fmt/format.h>

#include <set>

namespace demo {
namespace {

using kernelhub::Kernel;
using kernelhub::KernelSpec;
using kernelhub::LayerRepository;
using ElementwiseOp = void(at::Tensor&, const at::Tensor&);

Kernel load(const std::string& repo, std::int64_t version, DownloadProgress& progress) {
  kernelhub::LoadOptions options;
  // A CUDA build of torch selects cuda even on a machine without a GPU.
  options.backend = "cpu";
  options.progress = &progress;
  return kernelhub::get_kernel(repo, KernelSpec::of_version(version), options);
}

LoadedPackage describe(const Kernel& kernel, const std::string& repo, std::int64_t version) {
  const kernelhub::PackageInfo& info = kernel.package().info();
  LoadedPackage loaded;
  loaded.repo = repo;
  loaded.version = "v" + std::to_string(version);
  loaded.commit = info.origin.commit ? info.origin.commit->str() : "";
  loaded.variant = info.origin.variant;
  loaded.op_namespace = info.op_namespace;
  loaded.trace = kernel.trace();
  std::set<std::string> names;
  for (const kernelhub::OpInfo& op : kernel.package().ops()) names.insert(op.name);
  loaded.ops.assign(names.begin(), names.end());
  return loaded;
}

void print_package(const LoadedPackage& package) {
  fmt::print("  {} {} at commit {}\n", package.repo, package.version, package.commit.substr(0, 12));
  for (const kernelhub::VariantDecision& decision : package.trace) {
    const bool chosen = decision.variant == package.variant;
    fmt::print("    {} {:<42} {}\n", chosen ? "->" : "  ", decision.variant,
               chosen              ? "chosen"
               : decision.accepted ? "fits too, ranked lower (stable ABI, torch, tvm-ffi, noarch)"
                                   : decision.reason);
  }
  fmt::print("       ops live in namespace {}\n", package.op_namespace);
}

/// gelu_fast of both versions by turns against its formula, then the op that only one has.
void call_by_turns(const Kernel& first, const Kernel& second, const std::string& extra_op) {
  const at::Tensor x = at::linspace(-8, 8, 4097);
  const at::Tensor formula = 0.5 * x * (1 + at::tanh(x * 0.7978845608 * (1 + 0.044715 * x * x)));
  at::Tensor out = at::empty_like(x);
  const auto ops = {first.op<ElementwiseOp>("gelu_fast"), second.op<ElementwiseOp>("gelu_fast")};
  for (int turn = 0; turn < 2; ++turn) {
    for (const auto& gelu_fast : ops) {
      out.fill_(-1);
      gelu_fast(out, x);
      fmt::print("  {:<46} max abs to its formula {:.1e}\n",
                 fmt::format("{}.gelu_fast", gelu_fast.package().info().op_namespace),
                 (out - formula).abs().max().item<double>());
    }
  }
  second.op<ElementwiseOp>(extra_op)(out, x);
  const at::Tensor squared = at::relu(x) * at::relu(x);
  fmt::print("  {:<46} max abs to its formula {:.1e}\n",
             fmt::format("{}.{}", second.package().info().op_namespace, extra_op),
             (out - squared).abs().max().item<double>());
  try {
    (void)first.op<ElementwiseOp>(extra_op);
  } catch (const kernelhub::Error& error) {
    fmt::print("  the older one has no such op: {}\n", error.what());
  }
}

}  // namespace

std::vector<LoadedPackage> load_and_compare(const HubPackages& packages) {
  DownloadProgress progress;
  const Kernel first = load(packages.activation, packages.activation_version, progress);
  const Kernel second = load(packages.activation, packages.activation_next_version, progress);
  const Kernel norm = load(packages.layer_norm, packages.layer_norm_version, progress);
  std::vector<LoadedPackage> loaded = {
      describe(first, packages.activation, packages.activation_version),
      describe(second, packages.activation, packages.activation_next_version),
      describe(norm, packages.layer_norm, packages.layer_norm_version)};
  fmt::print("downloaded {} KiB\n", progress.downloaded_bytes() / 1024);
  for (const LoadedPackage& package : loaded) print_package(package);
  fmt::print("\nboth versions of {} in one process, called by turns\n", packages.activation);
  call_by_turns(first, second, packages.extra_op);
  return loaded;
}

kernelhub::KernelMapping mapping_of(const HubPackages& packages) {
  kernelhub::LayerRepositoryOptions options;
  options.backend = "cpu";
  const auto entry = [&](const std::string& repo, std::int64_t version, const char* layer) {
    std::map<kernelhub::Mode, LayerRepository> by_mode;
    by_mode.emplace(kernelhub::Mode::kInference,
                    LayerRepository::hub(repo, layer, KernelSpec::of_version(version), options));
    return std::vector<kernelhub::MappingEntry>{{kernelhub::Device("cpu"), std::move(by_mode)}};
  };
  return {{"GeLU", entry(packages.activation, packages.activation_version, "Gelu")},
          {"LayerNorm", entry(packages.layer_norm, packages.layer_norm_version, "LayerNorm")}};
}

}  // namespace demo
