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

struct UnaryOp {
  Op<Unary> op = kernel().op<Unary>("shifted");
  const at::Tensor& x = layers().x;
  void operator()() const {
    at::Tensor out = new_output(x);
    op(out, x);
    benchmark::DoNotOptimize(out);
  }
};

struct UnaryLayer {
  Layers& made = layers();
  void operator()() const {
    at::Tensor out = made.unary.forward(made.x);
    benchmark::DoNotOptimize(out);
  }
};

struct AffineOp {
  Op<WithParameters> op = kernel().op<WithParameters>("affine");
  const at::Tensor& x = layers().x;
  std::optional<at::Tensor> weight = layers().affine.weight;
  std::optional<at::Tensor> bias = layers().affine.bias;
  void operator()() const {
    at::Tensor out = new_output(x);
    op(out, x, weight, bias, 2.0);
    benchmark::DoNotOptimize(out);
  }
};

struct AffineLayer {
  Layers& made = layers();
  void operator()() const {
    at::Tensor out = made.affine.forward(made.x);
    benchmark::DoNotOptimize(out);
  }
};

template <class Call>
void run_in_inference(benchmark::State& state) {
  const c10::InferenceMode inference;
  benchmarks::run<Call>(state);
}

BENCHMARK(run_in_inference<UnaryOp>)->Name("unary_op");
BENCHMARK(run_in_inference<UnaryLayer>)->Name("unary_layer");
BENCHMARK(run_in_inference<AffineOp>)->Name("affine_op");
BENCHMARK(run_in_inference<AffineLayer>)->Name("affine_layer");

}  // namespace
}  // namespace kernelhub

int main(int argc, char** argv) {
  using namespace kernelhub;
  using namespace kernelhub::benchmarks;
  layers();
  MedianReporter reporter;
  run_interleaved(argc, argv, reporter);
  const c10::InferenceMode inference;
  bool met =
      print_floor("kernelized layer - op", compare(UnaryLayer(), UnaryOp()).difference, 20, "ns");
  met &= print_floor("kernelized layer with parameters - op",
                     compare(AffineLayer(), AffineOp()).difference, 20, "ns");
  return met ? 0 : 1;
}
