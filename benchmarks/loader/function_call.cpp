// SPDX-License-Identifier: Apache-2.0
// A tvm-ffi function by its handle against its symbol.
#include "fixture_package.h"
#include "paired_times.h"

#include "kernelhub/loader/kernel.h"

#include <dlfcn.h>

namespace kernelhub {
namespace {

struct Tensors {
  Tensors() = default;
  Tensors(const Tensors&) = delete;  // they point into themselves
  Tensors& operator=(const Tensors&) = delete;

  float data[4] = {};
  std::int64_t shape[1] = {4};
  DLTensor out{data, {kDLCPU, 0}, 1, {kDLFloat, 32, 1}, shape, nullptr, 0};
  DLTensor x = out;
};

const Function& function() {
  static const FixturePackage files("_nothing_cpu_1");
  static const Function found = files.kernel().function("nothing");
  return found;
}

kh_call symbol() {
  static void* library = dlopen(fixture("_nothing_cpu_1").c_str(), RTLD_NOW | RTLD_LOCAL);
  return reinterpret_cast<kh_call>(dlsym(library, "__tvm_ffi_nothing"));
}

struct DirectSymbol {
  Tensors tensors;
  kh_call call = symbol();
  void operator()() {
    const kh_value args[2] = {Value(&tensors.out).raw(), Value(&tensors.x).raw()};
    kh_value result{};
    benchmark::DoNotOptimize(call(nullptr, args, 2, &result));
  }
};

struct RawCall {
  Tensors tensors;
  const Function& call = function();
  void operator()() {
    const kh_value args[2] = {Value(&tensors.out).raw(), Value(&tensors.x).raw()};
    kh_value result{};
    benchmark::DoNotOptimize(call.call_raw(args, 2, &result));
  }
};

struct CheckedCall {
  Tensors tensors;
  const Function& call = function();
  void operator()() {
    const CallResult result = call({&tensors.out, &tensors.x});
    benchmark::DoNotOptimize(result.raw().type);
  }
};

BENCHMARK(benchmarks::run<DirectSymbol>)->Name("direct_symbol");
BENCHMARK(benchmarks::run<RawCall>)->Name("raw_call");
BENCHMARK(benchmarks::run<CheckedCall>)->Name("checked_call");

}  // namespace
}  // namespace kernelhub

int main(int argc, char** argv) {
  using namespace kernelhub;
  using namespace kernelhub::benchmarks;
  MedianReporter reporter;
  run_interleaved(argc, argv, reporter);
  bool met = print_floor("raw call - direct symbol", compare(RawCall(), DirectSymbol()).difference,
                         5, "ns");
  met &= print_floor("function call - direct symbol",
                     compare(CheckedCall(), DirectSymbol()).difference, 5, "ns");
  return met ? 0 : 1;
}
