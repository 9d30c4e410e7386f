// SPDX-License-Identifier: Apache-2.0
#include "registration.h"

#include <torch/csrc/stable/library.h>

#include "activation/checks.h"
#include "primitives/torch_args.h"

#if defined(CPU_KERNEL)
#include "activation_cpu/activation_cpu.h"
#elif defined(CUDA_KERNEL)
#include "activation_cuda/activation_cuda.h"
#include "primitives/torch_cuda.h"
#endif

namespace kernelhub::activation {
namespace {

using torch::stable::Tensor;

void compute(const Params& params, [[maybe_unused]] const Tensor& input) {
  if (params.rows == 0 || params.cols == 0) return;
#if defined(CPU_KERNEL)
  cpu::run(params, primitives::torch_parallel_for());
#elif defined(CUDA_KERNEL)
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  primitives::check_launch("activation", op_name(params.op), params.rows, params.cols,
                           cuda::launch(params, primitives::current_stream(input)));
#endif
}

void compute_backward(Op op, const Tensor& grad_input, const Tensor& grad_out, const Tensor& input,
                      double threshold) {
  const BackwardParams params =
      checked_backward_params(op, primitives::tensor_arg("grad_input", grad_input),
                              primitives::tensor_arg("grad_out", grad_out),
                              primitives::tensor_arg("input", input), threshold);
  if (params.rows == 0 || params.cols == 0) return;
#if defined(CPU_KERNEL)
  cpu::run_backward(params, primitives::torch_parallel_for());
#elif defined(CUDA_KERNEL)
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  primitives::check_launch("activation", backward_name(op), params.rows, params.cols,
                           cuda::launch_backward(params, primitives::current_stream(input)));
#endif
}

template <Op op>
void apply(Tensor out, Tensor input) {
  const Params params = checked_params(op, primitives::tensor_arg("out", out),
                                       primitives::tensor_arg("input", input), 0.0);
  compute(params, input);
}

void fatrelu_and_mul(Tensor out, Tensor input, double threshold) {
  const Params params = checked_params(Op::kFatreluAndMul, primitives::tensor_arg("out", out),
                                       primitives::tensor_arg("input", input), threshold);
  compute(params, input);
}

template <Op op>
void apply_backward(Tensor grad_input, Tensor grad_out, Tensor input) {
  compute_backward(op, grad_input, grad_out, input, 0.0);
}

void fatrelu_and_mul_backward(Tensor grad_input, Tensor grad_out, Tensor input, double threshold) {
  compute_backward(Op::kFatreluAndMul, grad_input, grad_out, input, threshold);
}

void register_kernels(torch::stable::detail::StableLibrary& m) {
  m.impl("silu_and_mul", TORCH_BOX(&apply<Op::kSiluAndMul>));
  m.impl("mul_and_silu", TORCH_BOX(&apply<Op::kMulAndSilu>));
  m.impl("gelu_and_mul", TORCH_BOX(&apply<Op::kGeluAndMul>));
  m.impl("gelu_tanh_and_mul", TORCH_BOX(&apply<Op::kGeluTanhAndMul>));
  m.impl("fatrelu_and_mul", TORCH_BOX(&fatrelu_and_mul));
  m.impl("gelu_new", TORCH_BOX(&apply<Op::kGeluNew>));
  m.impl("gelu_fast", TORCH_BOX(&apply<Op::kGeluFast>));
  m.impl("gelu_quick", TORCH_BOX(&apply<Op::kGeluQuick>));
  m.impl("gelu_tanh", TORCH_BOX(&apply<Op::kGeluTanh>));
  m.impl("silu", TORCH_BOX(&apply<Op::kSilu>));
  m.impl("gelu", TORCH_BOX(&apply<Op::kGelu>));
  m.impl("silu_and_mul_backward", TORCH_BOX(&apply_backward<Op::kSiluAndMul>));
  m.impl("mul_and_silu_backward", TORCH_BOX(&apply_backward<Op::kMulAndSilu>));
  m.impl("gelu_and_mul_backward", TORCH_BOX(&apply_backward<Op::kGeluAndMul>));
  m.impl("gelu_tanh_and_mul_backward", TORCH_BOX(&apply_backward<Op::kGeluTanhAndMul>));
  m.impl("fatrelu_and_mul_backward", TORCH_BOX(&fatrelu_and_mul_backward));
  m.impl("gelu_new_backward", TORCH_BOX(&apply_backward<Op::kGeluNew>));
  m.impl("gelu_fast_backward", TORCH_BOX(&apply_backward<Op::kGeluFast>));
  m.impl("gelu_quick_backward", TORCH_BOX(&apply_backward<Op::kGeluQuick>));
  m.impl("gelu_tanh_backward", TORCH_BOX(&apply_backward<Op::kGeluTanh>));
  m.impl("silu_backward", TORCH_BOX(&apply_backward<Op::kSilu>));
  m.impl("gelu_backward", TORCH_BOX(&apply_backward<Op::kGelu>));
}

}  // namespace
}  // namespace kernelhub::activation

STABLE_TORCH_LIBRARY_EXPAND(TORCH_EXTENSION_NAME, m) {
  m.def("silu_and_mul(Tensor! out, Tensor input) -> ()");
  m.def("mul_and_silu(Tensor! out, Tensor input) -> ()");
  m.def("gelu_and_mul(Tensor! out, Tensor input) -> ()");
  m.def("gelu_tanh_and_mul(Tensor! out, Tensor input) -> ()");
  m.def("fatrelu_and_mul(Tensor! out, Tensor input, float threshold) -> ()");
  m.def("gelu_new(Tensor! out, Tensor input) -> ()");
  m.def("gelu_fast(Tensor! out, Tensor input) -> ()");
  m.def("gelu_quick(Tensor! out, Tensor input) -> ()");
  m.def("gelu_tanh(Tensor! out, Tensor input) -> ()");
  m.def("silu(Tensor! out, Tensor input) -> ()");
  m.def("gelu(Tensor! out, Tensor input) -> ()");
  m.def("silu_and_mul_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()");
  m.def("mul_and_silu_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()");
  m.def("gelu_and_mul_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()");
  m.def("gelu_tanh_and_mul_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()");
  m.def(
      "fatrelu_and_mul_backward(Tensor! grad_input, Tensor grad_out, Tensor input, float "
      "threshold) -> ()");
  m.def("gelu_new_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()");
  m.def("gelu_fast_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()");
  m.def("gelu_quick_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()");
  m.def("gelu_tanh_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()");
  m.def("silu_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()");
  m.def("gelu_backward(Tensor! grad_input, Tensor grad_out, Tensor input) -> ()");
}

#if defined(CPU_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CPU, m) {
  kernelhub::activation::register_kernels(m);
}
#elif defined(CUDA_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CUDA, m) {
  kernelhub::activation::register_kernels(m);
}
#endif

REGISTER_EXTENSION(TORCH_EXTENSION_NAME)
