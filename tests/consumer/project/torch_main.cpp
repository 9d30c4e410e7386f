// SPDX-License-Identifier: Apache-2.0
// A C++17 program with torch and without Python: the running torch is seen.
#include <cstdio>
#include <kernelhub/kernelhub.h>
#include <kernelhub/torch/op.h>

int main() {
  using Signature = void(at::Tensor, at::Tensor);
  const auto get = [](const kernelhub::Kernel& kernel) { return kernel.op<Signature>("gelu"); };
  (void)get;
  const auto& system = kernelhub::system();
  if (!system.torch || system.python_in_process) return 1;
  std::printf("torch %s, backend %s\n", system.torch->str().c_str(),
              system.backend.compute_name().c_str());
  return 0;
}
