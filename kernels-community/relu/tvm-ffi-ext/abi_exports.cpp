// SPDX-License-Identifier: Apache-2.0
#include <kernelhub/abi/kernel.hpp>

#include "primitives/abi_args.h"
#include "relu/checks.h"

#if defined(CPU_KERNEL)
#include "relu_cpu/relu_cpu.h"
#elif defined(CUDA_KERNEL)
#include "primitives/abi_cuda.h"
#include "relu_cuda/relu_cuda.h"
#endif

namespace kernelhub::relu {
namespace {

primitives::TensorArg input_on_backend(const char* op, const DLTensor& input) {
  const primitives::TensorArg arg = primitives::tensor_arg("input", input);
  primitives::ArgumentCheck("relu", op)
      .on_backend(arg, primitives::kDeviceType, KERNELHUB_PACKAGE_BACKEND);
  return arg;
}

void compute([[maybe_unused]] const char* op, const Params& params,
             [[maybe_unused]] const DLDevice& device) {
  if (params.rows == 0 || params.cols == 0) return;
#if defined(CPU_KERNEL)
  cpu::run(params, primitives::host_parallel_for());
#elif defined(CUDA_KERNEL)
  const primitives::DeviceGuard guard(device.device_id);
  primitives::check_launch("relu", op, params.rows, params.cols,
                           cuda::launch(params, primitives::current_stream(device)));
#endif
}

void relu(DLTensor* out, const DLTensor* input) {
  const primitives::TensorArg input_arg = input_on_backend("relu", *input);
  compute("relu", checked_params("relu", primitives::tensor_arg("out", *out), input_arg, input_arg),
          input->device);
}

void relu_backward(DLTensor* grad_input, const DLTensor* grad_out, const DLTensor* input) {
  const primitives::TensorArg input_arg = input_on_backend("relu_backward", *input);
  compute("relu_backward",
          checked_params("relu_backward", primitives::tensor_arg("grad_input", *grad_input),
                         primitives::tensor_arg("grad_out", *grad_out), input_arg),
          input->device);
}

}  // namespace
}  // namespace kernelhub::relu

KERNELHUB_FUNCTION(relu, &kernelhub::relu::relu, "relu(Tensor! out, Tensor input) -> ()")
KERNELHUB_FUNCTION(relu_backward, &kernelhub::relu::relu_backward,
                   "relu_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()")

KERNELHUB_PACKAGE(KERNELHUB_STRING(TVM_FFI_EXTENSION_NAME), KERNELHUB_PACKAGE_NAME,
                  KERNELHUB_PACKAGE_VERSION, KERNELHUB_PACKAGE_BACKEND,
                  kernelhub::primitives::kPackageFlags, KERNELHUB_ROW(relu),
                  KERNELHUB_ROW(relu_backward))
