// SPDX-License-Identifier: Apache-2.0
#include <kernelhub/abi/kernel.hpp>

#include "activation/checks.h"
#include "primitives/abi_args.h"

#if defined(CPU_KERNEL)
#include "activation_cpu/activation_cpu.h"
#elif defined(CUDA_KERNEL)
#include "activation_cuda/activation_cuda.h"
#include "primitives/abi_cuda.h"
#endif

namespace kernelhub::activation {
namespace {

void compute(Op op, const DLTensor& out, const DLTensor& input, double threshold) {
  const primitives::TensorArg input_arg = primitives::tensor_arg("input", input);
  primitives::ArgumentCheck("activation", op_name(op))
      .on_backend(input_arg, primitives::kDeviceType, KERNELHUB_PACKAGE_BACKEND);
  const Params params =
      checked_params(op, primitives::tensor_arg("out", out), input_arg, threshold);
  if (params.rows == 0 || params.cols == 0) return;
#if defined(CPU_KERNEL)
  cpu::run(params, primitives::host_parallel_for());
#elif defined(CUDA_KERNEL)
  const primitives::DeviceGuard guard(input.device.device_id);
  primitives::check_launch("activation", op_name(op), params.rows, params.cols,
                           cuda::launch(params, primitives::current_stream(input.device)));
#endif
}

void compute_backward(Op op, const DLTensor& grad_input, const DLTensor& grad_out,
                      const DLTensor& input, double threshold) {
  const primitives::TensorArg input_arg = primitives::tensor_arg("input", input);
  primitives::ArgumentCheck("activation", backward_name(op))
      .on_backend(input_arg, primitives::kDeviceType, KERNELHUB_PACKAGE_BACKEND);
  const BackwardParams params =
      checked_backward_params(op, primitives::tensor_arg("grad_input", grad_input),
                              primitives::tensor_arg("grad_out", grad_out), input_arg, threshold);
  if (params.rows == 0 || params.cols == 0) return;
#if defined(CPU_KERNEL)
  cpu::run_backward(params, primitives::host_parallel_for());
#elif defined(CUDA_KERNEL)
  const primitives::DeviceGuard guard(input.device.device_id);
  primitives::check_launch("activation", backward_name(op), params.rows, params.cols,
                           cuda::launch_backward(params, primitives::current_stream(input.device)));
#endif
}

template <Op op>
void apply(DLTensor* out, const DLTensor* input) {
  compute(op, *out, *input, 0.0);
}

void fatrelu_and_mul(DLTensor* out, const DLTensor* input, double threshold) {
  compute(Op::kFatreluAndMul, *out, *input, threshold);
}

template <Op op>
void apply_backward(DLTensor* grad_input, const DLTensor* grad_out, const DLTensor* input) {
  compute_backward(op, *grad_input, *grad_out, *input, 0.0);
}

void fatrelu_and_mul_backward(DLTensor* grad_input, const DLTensor* grad_out, const DLTensor* input,
                              double threshold) {
  compute_backward(Op::kFatreluAndMul, *grad_input, *grad_out, *input, threshold);
}

}  // namespace
}  // namespace kernelhub::activation

using kernelhub::activation::Op;

KERNELHUB_FUNCTION(silu_and_mul, &kernelhub::activation::apply<Op::kSiluAndMul>,
                   "silu_and_mul(Tensor! out, Tensor input) -> ()")
KERNELHUB_FUNCTION(mul_and_silu, &kernelhub::activation::apply<Op::kMulAndSilu>,
                   "mul_and_silu(Tensor! out, Tensor input) -> ()")
KERNELHUB_FUNCTION(gelu_and_mul, &kernelhub::activation::apply<Op::kGeluAndMul>,
                   "gelu_and_mul(Tensor! out, Tensor input) -> ()")
KERNELHUB_FUNCTION(gelu_tanh_and_mul, &kernelhub::activation::apply<Op::kGeluTanhAndMul>,
                   "gelu_tanh_and_mul(Tensor! out, Tensor input) -> ()")
KERNELHUB_FUNCTION(fatrelu_and_mul, &kernelhub::activation::fatrelu_and_mul,
                   "fatrelu_and_mul(Tensor! out, Tensor input, float threshold) -> ()")
KERNELHUB_FUNCTION(gelu_new, &kernelhub::activation::apply<Op::kGeluNew>,
                   "gelu_new(Tensor! out, Tensor input) -> ()")
KERNELHUB_FUNCTION(gelu_fast, &kernelhub::activation::apply<Op::kGeluFast>,
                   "gelu_fast(Tensor! out, Tensor input) -> ()")
KERNELHUB_FUNCTION(gelu_quick, &kernelhub::activation::apply<Op::kGeluQuick>,
                   "gelu_quick(Tensor! out, Tensor input) -> ()")
KERNELHUB_FUNCTION(gelu_tanh, &kernelhub::activation::apply<Op::kGeluTanh>,
                   "gelu_tanh(Tensor! out, Tensor input) -> ()")
KERNELHUB_FUNCTION(silu, &kernelhub::activation::apply<Op::kSilu>,
                   "silu(Tensor! out, Tensor input) -> ()")
KERNELHUB_FUNCTION(gelu, &kernelhub::activation::apply<Op::kGelu>,
                   "gelu(Tensor! out, Tensor input) -> ()")
KERNELHUB_FUNCTION(silu_and_mul_backward, &kernelhub::activation::apply_backward<Op::kSiluAndMul>,
                   "silu_and_mul_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()")
KERNELHUB_FUNCTION(mul_and_silu_backward, &kernelhub::activation::apply_backward<Op::kMulAndSilu>,
                   "mul_and_silu_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()")
KERNELHUB_FUNCTION(gelu_and_mul_backward, &kernelhub::activation::apply_backward<Op::kGeluAndMul>,
                   "gelu_and_mul_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()")
KERNELHUB_FUNCTION(
    gelu_tanh_and_mul_backward, &kernelhub::activation::apply_backward<Op::kGeluTanhAndMul>,
    "gelu_tanh_and_mul_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()")
KERNELHUB_FUNCTION(fatrelu_and_mul_backward, &kernelhub::activation::fatrelu_and_mul_backward,
                   "fatrelu_and_mul_backward(Tensor! grad_input, Tensor grad_out, Tensor input, "
                   "float threshold) -> ()")
KERNELHUB_FUNCTION(gelu_new_backward, &kernelhub::activation::apply_backward<Op::kGeluNew>,
                   "gelu_new_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()")
KERNELHUB_FUNCTION(gelu_fast_backward, &kernelhub::activation::apply_backward<Op::kGeluFast>,
                   "gelu_fast_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()")
KERNELHUB_FUNCTION(gelu_quick_backward, &kernelhub::activation::apply_backward<Op::kGeluQuick>,
                   "gelu_quick_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()")
KERNELHUB_FUNCTION(gelu_tanh_backward, &kernelhub::activation::apply_backward<Op::kGeluTanh>,
                   "gelu_tanh_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()")
KERNELHUB_FUNCTION(silu_backward, &kernelhub::activation::apply_backward<Op::kSilu>,
                   "silu_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()")
KERNELHUB_FUNCTION(gelu_backward, &kernelhub::activation::apply_backward<Op::kGelu>,
                   "gelu_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()")

KERNELHUB_PACKAGE(KERNELHUB_STRING(TVM_FFI_EXTENSION_NAME), KERNELHUB_PACKAGE_NAME,
                  KERNELHUB_PACKAGE_VERSION, KERNELHUB_PACKAGE_BACKEND,
                  kernelhub::primitives::kPackageFlags, KERNELHUB_ROW(silu_and_mul),
                  KERNELHUB_ROW(mul_and_silu), KERNELHUB_ROW(gelu_and_mul),
                  KERNELHUB_ROW(gelu_tanh_and_mul), KERNELHUB_ROW(fatrelu_and_mul),
                  KERNELHUB_ROW(gelu_new), KERNELHUB_ROW(gelu_fast), KERNELHUB_ROW(gelu_quick),
                  KERNELHUB_ROW(gelu_tanh), KERNELHUB_ROW(silu), KERNELHUB_ROW(gelu),
                  KERNELHUB_ROW(silu_and_mul_backward), KERNELHUB_ROW(mul_and_silu_backward),
                  KERNELHUB_ROW(gelu_and_mul_backward), KERNELHUB_ROW(gelu_tanh_and_mul_backward),
                  KERNELHUB_ROW(fatrelu_and_mul_backward), KERNELHUB_ROW(gelu_new_backward),
                  KERNELHUB_ROW(gelu_fast_backward), KERNELHUB_ROW(gelu_quick_backward),
                  KERNELHUB_ROW(gelu_tanh_backward), KERNELHUB_ROW(silu_backward),
                  KERNELHUB_ROW(gelu_backward))
