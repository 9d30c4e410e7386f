// SPDX-License-Identifier: Apache-2.0
#include "registration.h"

#include <torch/csrc/stable/library.h>

#include "primitives/torch_args.h"
#include "relu/checks.h"

#if defined(CPU_KERNEL)
#include "relu_cpu/relu_cpu.h"
#elif defined(CUDA_KERNEL)
#include "primitives/torch_cuda.h"
#include "relu_cuda/relu_cuda.h"
#endif

namespace kernelhub::relu {
namespace {

using torch::stable::Tensor;

void compute([[maybe_unused]] const char* op, const Params& params,
             [[maybe_unused]] const Tensor& input) {
  if (params.rows == 0 || params.cols == 0) return;
#if defined(CPU_KERNEL)
  cpu::run(params, primitives::torch_parallel_for());
#elif defined(CUDA_KERNEL)
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  primitives::check_launch("relu", op, params.rows, params.cols,
                           cuda::launch(params, primitives::current_stream(input)));
#endif
}

void relu(Tensor out, Tensor input) {
  const primitives::TensorArg input_arg = primitives::tensor_arg("input", input);
  compute("relu", checked_params("relu", primitives::tensor_arg("out", out), input_arg, input_arg),
          input);
}

void relu_backward(Tensor grad_input, Tensor grad_out, Tensor input) {
  compute("relu_backward",
          checked_params("relu_backward", primitives::tensor_arg("grad_input", grad_input),
                         primitives::tensor_arg("grad_out", grad_out),
                         primitives::tensor_arg("input", input)),
          input);
}

void register_kernels(torch::stable::detail::StableLibrary& m) {
  m.impl("relu", TORCH_BOX(&relu));
  m.impl("relu_backward", TORCH_BOX(&relu_backward));
}

}  // namespace
}  // namespace kernelhub::relu

STABLE_TORCH_LIBRARY_EXPAND(TORCH_EXTENSION_NAME, m) {
  m.def("relu(Tensor! out, Tensor input) -> ()");
  m.def("relu_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()");
}

#if defined(CPU_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CPU, m) {
  kernelhub::relu::register_kernels(m);
}
#elif defined(CUDA_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CUDA, m) {
  kernelhub::relu::register_kernels(m);
}
#endif

REGISTER_EXTENSION(TORCH_EXTENSION_NAME)
