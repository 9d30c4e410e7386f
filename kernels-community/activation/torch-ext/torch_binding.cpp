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
