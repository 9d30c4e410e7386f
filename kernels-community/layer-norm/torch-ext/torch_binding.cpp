// SPDX-License-Identifier: Apache-2.0
#include "registration.h"

#include <torch/csrc/stable/library.h>

#include <optional>

#include "layer_norm/checks.h"
#include "primitives/torch_args.h"

#if defined(CPU_KERNEL)
#include "layer_norm_cpu/layer_norm_cpu.h"
#elif defined(CUDA_KERNEL)
#include "layer_norm_cuda/layer_norm_cuda.h"
#include "primitives/torch_cuda.h"
#endif

namespace kernelhub::layer_norm {
namespace {

using torch::stable::Tensor;

std::optional<primitives::TensorArg> optional_arg(const char* name,
                                                  const std::optional<Tensor>& tensor) {
  if (!tensor.has_value()) return std::nullopt;
  return primitives::tensor_arg(name, *tensor);
}

void compute(const Params& params, [[maybe_unused]] const Tensor& x) {
  if (params.rows == 0 || params.cols == 0) return;
#if defined(CPU_KERNEL)
  cpu::run(params, primitives::torch_parallel_for());
#elif defined(CUDA_KERNEL)
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  primitives::check_launch("layer_norm", "layer_norm", params.rows, params.cols,
                           cuda::launch(params, primitives::current_stream(x)));
#endif
}

void layer_norm(Tensor out, Tensor x, std::optional<Tensor> weight, std::optional<Tensor> bias,
                double eps) {
  const auto weight_arg = optional_arg("weight", weight);
  const auto bias_arg = optional_arg("bias", bias);
  const Params params =
      checked_params(primitives::tensor_arg("out", out), primitives::tensor_arg("x", x),
                     weight_arg ? &*weight_arg : nullptr, bias_arg ? &*bias_arg : nullptr, eps);
  compute(params, x);
}

}  // namespace
}  // namespace kernelhub::layer_norm

STABLE_TORCH_LIBRARY_EXPAND(TORCH_EXTENSION_NAME, m) {
  m.def("layer_norm(Tensor! out, Tensor x, Tensor? weight, Tensor? bias, float eps) -> ()");
}

#if defined(CPU_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CPU, m) {
  m.impl("layer_norm", TORCH_BOX(&kernelhub::layer_norm::layer_norm));
}
#elif defined(CUDA_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CUDA, m) {
  m.impl("layer_norm", TORCH_BOX(&kernelhub::layer_norm::layer_norm));
}
#endif

REGISTER_EXTENSION(TORCH_EXTENSION_NAME)
