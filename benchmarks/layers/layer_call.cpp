// SPDX-License-Identifier: Apache-2.0
// A kernelized layer's call against the op itself. Both sides allocate the result, both run the
// same op of the fixture package on three floats; the difference is the cost of slot, guards and
// binding.
#include "layer_modules.h"
#include "paired_times.h"

#include "kernelhub/get_kernel.h"
#include "kernelhub/torch/op.h"

#include <ATen/ops/empty_like.h>
#include <c10/core/InferenceMode.h>

namespace kernelhub {
namespace {

using Unary = void(at::Tensor&, const at::Tensor&);
using WithParameters = void(at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                            const std::optional<at::Tensor>&, double);

const Kernel& kernel() {
  static const Kernel loaded = [] {
    LoadOptions options;
    options.backend = "cpu";
    return get_local_kernel(std::string(KERNELHUB_LAYER_PACKAGES) + "/layer_ops", options);
  }();
  return loaded;
}

at::Tensor new_output(const at::Tensor& x) {
  return at::empty_like(x, {}, {}, {}, {}, c10::MemoryFormat::Contiguous);
}

/// Layers made once, so that both sides run with one and the same state of the heap.
struct Layers {
  Layers() {
    const ScopedKernelMapping scope(map_layers({"Shift", "Affine"}), InheritMapping::kNo);
    kernelize(unary, Mode::kInference, "cpu", KernelizeFallback::kNone);
    kernelize(affine, Mode::kInference, "cpu", KernelizeFallback::kNone);
  }
  Named unary{"Shift"};
  Affine affine;
  at::Tensor x = at::full({3}, 1.0);
};

Layers& layers() {
  static Layers made;
  return made;
}

void unary_op(benchmark::State& state) {
  const c10::InferenceMode inference;
  const Op<Unary> op = kernel().op<Unary>("shifted");
  const at::Tensor& x = layers().x;
  for (auto _ : state) {
    at::Tensor out = new_output(x);
    op(out, x);
    benchmark::DoNotOptimize(out);
  }
}

void unary_layer(benchmark::State& state) {
  const c10::InferenceMode inference;
  Layers& made = layers();
  for (auto _ : state) {
    at::Tensor out = made.unary.forward(made.x);
    benchmark::DoNotOptimize(out);
  }
}

void affine_op(benchmark::State& state) {
  const c10::InferenceMode inference;
  const Op<WithParameters> op = kernel().op<WithParameters>("affine");
  const at::Tensor& x = layers().x;
  const std::optional<at::Tensor> weight = layers().affine.weight;
  const std::optional<at::Tensor> bias = layers().affine.bias;
  for (auto _ : state) {
    at::Tensor out = new_output(x);
    op(out, x, weight, bias, 2.0);
    benchmark::DoNotOptimize(out);
  }
}

void affine_layer(benchmark::State& state) {
  const c10::InferenceMode inference;
  Layers& made = layers();
  for (auto _ : state) {
    at::Tensor out = made.affine.forward(made.x);
    benchmark::DoNotOptimize(out);
  }
}

BENCHMARK(unary_op);
BENCHMARK(unary_layer);
BENCHMARK(affine_op);
BENCHMARK(affine_layer);

}  // namespace
}  // namespace kernelhub

int main(int argc, char** argv) {
  using namespace kernelhub::benchmarks;
  kernelhub::layers();
  MedianReporter reporter;
  run_interleaved(argc, argv, reporter);
  bool met = print_floor("kernelized layer - op",
                         reporter.median("unary_layer") - reporter.median("unary_op"), 20, "ns");
  met &= print_floor("kernelized layer with parameters - op",
                     reporter.median("affine_layer") - reporter.median("affine_op"), 20, "ns");
  return met ? 0 : 1;
}
