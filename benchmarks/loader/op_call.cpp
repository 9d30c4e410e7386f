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

struct TypedHandle {
  Tensors tensors;
  c10::TypedOperatorHandle<Signature> call = handle().typed<Signature>();
  void operator()() { call.call(tensors.out, tensors.x); }
};

struct TypedOp {
  Tensors tensors;
  Op<Signature> call = torch_kernel().op<Signature>("nothing");
  void operator()() { call(tensors.out, tensors.x); }
};

struct BoxedHandle {
  Tensors tensors;
  c10::OperatorHandle call = handle();
  c10::Stack stack;
  void operator()() {
    stack.emplace_back(tensors.out);
    stack.emplace_back(tensors.x);
    call.callBoxed(stack);
  }
};

struct BoxedCall {
  Tensors tensors;
  BoxedOp call = torch_kernel().boxed("nothing");
  c10::Stack stack;
  void operator()() {
    stack.emplace_back(tensors.out);
    stack.emplace_back(tensors.x);
    call(stack);
  }
};

struct FunctionWithTensors {
  Tensors tensors;
  FixturePackage files{"_nothing_cpu_1"};
  Function function = files.kernel().function("nothing");
  void operator()() {
    const CallResult result = call(function, tensors.out, tensors.x);
    benchmark::DoNotOptimize(result.raw().type);
  }
};

BENCHMARK(benchmarks::run<TypedHandle>)->Name("typed_handle");
BENCHMARK(benchmarks::run<TypedOp>)->Name("typed_op");
BENCHMARK(benchmarks::run<BoxedHandle>)->Name("boxed_handle");
BENCHMARK(benchmarks::run<BoxedCall>)->Name("boxed_op");
BENCHMARK(benchmarks::run<FunctionWithTensors>)->Name("function_with_tensors");

}  // namespace
}  // namespace kernelhub

int main(int argc, char** argv) {
  using namespace kernelhub;
  using namespace kernelhub::benchmarks;
  MedianReporter reporter;
  run_interleaved(argc, argv, reporter);
  bool met =
      print_floor("typed op / typed handle", compare(TypedOp(), TypedHandle()).ratio, 1.10, "x");
  met &=
      print_floor("boxed op / boxed handle", compare(BoxedCall(), BoxedHandle()).ratio, 1.15, "x");
  met &= print_floor("function with two tensors / typed handle",
                     compare(FunctionWithTensors(), TypedHandle()).ratio, 0.50, "x");
  return met ? 0 : 1;
}
