// SPDX-License-Identifier: Apache-2.0
// A torch op by Op<Signature> and BoxedOp against torch's own handles, and a tvm-ffi function with
// torch tensors against both.
#include "fixture_package.h"
#include "paired_times.h"

#include "kernelhub/torch/op.h"
#include "kernelhub/torch/tensor_view.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>

namespace kernelhub {
namespace {

using Signature = void(at::Tensor&, const at::Tensor&);

struct Tensors {
  at::Tensor x = at::full({4}, 1.0);
  at::Tensor out = at::zeros_like(x);
};

const Kernel& torch_kernel() {
  static const FixturePackage files(fixture("_nothing_classic_1.abi3"),
                                    fixture_metadata("_nothing_classic_1"), ".abi3.so");
  static const Kernel kernel = files.kernel();
  return kernel;
}

c10::OperatorHandle handle() {
  torch_kernel();
  return c10::Dispatcher::singleton().findSchemaOrThrow("_nothing_classic_1::nothing", "");
}

void typed_handle(benchmark::State& state) {
  Tensors tensors;
  const auto call = handle().typed<Signature>();
  for (auto _ : state) call.call(tensors.out, tensors.x);
}

void typed_op(benchmark::State& state) {
  Tensors tensors;
  const Op<Signature> call = torch_kernel().op<Signature>("nothing");
  for (auto _ : state) call(tensors.out, tensors.x);
}

void boxed_handle(benchmark::State& state) {
  Tensors tensors;
  const c10::OperatorHandle call = handle();
  c10::Stack stack;
  for (auto _ : state) {
    stack.emplace_back(tensors.out);
    stack.emplace_back(tensors.x);
    call.callBoxed(stack);
  }
}

void boxed_op(benchmark::State& state) {
  Tensors tensors;
  const BoxedOp call = torch_kernel().boxed("nothing");
  c10::Stack stack;
  for (auto _ : state) {
    stack.emplace_back(tensors.out);
    stack.emplace_back(tensors.x);
    call(stack);
  }
}

void function_with_tensors(benchmark::State& state) {
  Tensors tensors;
  const FixturePackage files("_nothing_cpu_1");
  const Function function = files.kernel().function("nothing");
  for (auto _ : state) {
    const CallResult result = call(function, tensors.out, tensors.x);
    benchmark::DoNotOptimize(result.raw().type);
  }
}

BENCHMARK(typed_handle);
BENCHMARK(typed_op);
BENCHMARK(boxed_handle);
BENCHMARK(boxed_op);
BENCHMARK(function_with_tensors);

}  // namespace
}  // namespace kernelhub

int main(int argc, char** argv) {
  using namespace kernelhub::benchmarks;
  MedianReporter reporter;
  run_interleaved(argc, argv, reporter);
  const double typed = reporter.median("typed_handle");
  bool met = print_floor("typed op / typed handle", reporter.median("typed_op") / typed, 1.10, "x");
  met &= print_floor("boxed op / boxed handle",
                     reporter.median("boxed_op") / reporter.median("boxed_handle"), 1.15, "x");
  met &= print_floor("function with two tensors / typed handle",
                     reporter.median("function_with_tensors") / typed, 0.50, "x");
  return met ? 0 : 1;
}
