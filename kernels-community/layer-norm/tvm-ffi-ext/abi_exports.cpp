// SPDX-License-Identifier: Apache-2.0
#include <kernelhub/abi/kernel.hpp>
#include <optional>

#include "layer_norm/checks.h"
#include "layer_norm/schemas.h"
#include "primitives/abi_args.h"

#if defined(CPU_KERNEL)
#include "layer_norm_cpu/layer_norm_cpu.h"
#elif defined(CUDA_KERNEL)
#include "layer_norm_cuda/layer_norm_cuda.h"
#include "primitives/abi_cuda.h"
#endif

namespace kernelhub::layer_norm {
namespace {

using MaybeIn = std::optional<const DLTensor*>;
using MaybeOut = std::optional<DLTensor*>;

/// A tensor argument described for the checks; converts to null where the caller gave none.
class Argument {
 public:
  Argument(const char* name, const DLTensor* tensor)
      : arg_(primitives::tensor_arg(name, *tensor)) {}
  template <class T>
  Argument(const char* name, const std::optional<T*>& tensor)
      : arg_(tensor.has_value() ? primitives::tensor_arg(name, **tensor) : primitives::TensorArg{}),
        is_given_(tensor.has_value()) {}
  operator OptionalArg() const { return is_given_ ? &arg_ : nullptr; }
  const primitives::TensorArg& operator*() const { return arg_; }

 private:
  primitives::TensorArg arg_;
  bool is_given_ = true;
};

void check_device(const char* op, const primitives::TensorArg& x) {
  primitives::ArgumentCheck("layer_norm", op)
      .on_backend(x, primitives::kDeviceType, KERNELHUB_PACKAGE_BACKEND);
}

template <class Call>
void compute(const char* op, const Call& params, [[maybe_unused]] const DLTensor* x) {
  if (is_empty(params)) return;
#if defined(CPU_KERNEL)
  static_cast<void>(op);
  cpu::run(params, primitives::host_parallel_for());
#elif defined(CUDA_KERNEL)
  const primitives::DeviceGuard guard(x->device.device_id);
  primitives::check_launch("layer_norm", op, params.rows, params.cols,
                           cuda::launch(params, primitives::current_stream(x->device)));
#endif
}

#if defined(CUDA_KERNEL)
void compute(const char* op, const FusedBackwardParams& params, const DLTensor* x) {
  if (is_empty(params)) return;
  const primitives::DeviceGuard guard(x->device.device_id);
  const cudaStream_t stream = primitives::current_stream(x->device);
  cuda::BackwardPlan plan{};
  cudaError_t status = cuda::plan_backward(params, &plan);
  if (status == cudaSuccess) {
    const primitives::StreamMemory workspace(plan.workspace_bytes, stream);
    status = cuda::launch_backward(params, plan, workspace.get(), stream);
  }
  primitives::check_launch("layer_norm", op, params.rows, params.cols, status);
}
#endif

void layer_norm(DLTensor* out, const DLTensor* x, MaybeIn weight, MaybeIn bias, double eps) {
  const Argument x_arg("x", x);
  check_device("layer_norm", *x_arg);
  compute("layer_norm",
          checked_params(Norm::kLayer, *Argument("out", out), *x_arg, Argument("weight", weight),
                         Argument("bias", bias), eps),
          x);
}

void rms_norm(DLTensor* out, const DLTensor* x, MaybeIn weight, double eps) {
  const Argument x_arg("x", x);
  check_device("rms_norm", *x_arg);
  compute("rms_norm",
          checked_params(Norm::kRms, *Argument("out", out), *x_arg, Argument("weight", weight),
                         nullptr, eps),
          x);
}

void layer_norm_backward(MaybeOut grad_x, MaybeOut grad_weight, MaybeOut grad_bias,
                         const DLTensor* grad_out, const DLTensor* x, MaybeIn weight, double eps) {
  const Argument x_arg("x", x);
  check_device("layer_norm_backward", *x_arg);
  compute("layer_norm_backward",
          checked_backward_params(Norm::kLayer, Argument("grad_x", grad_x),
                                  Argument("grad_weight", grad_weight),
                                  Argument("grad_bias", grad_bias), *Argument("grad_out", grad_out),
                                  *x_arg, Argument("weight", weight), eps),
          x);
}

void rms_norm_backward(MaybeOut grad_x, MaybeOut grad_weight, const DLTensor* grad_out,
                       const DLTensor* x, MaybeIn weight, double eps) {
  const Argument x_arg("x", x);
  check_device("rms_norm_backward", *x_arg);
  compute("rms_norm_backward",
          checked_backward_params(
              Norm::kRms, Argument("grad_x", grad_x), Argument("grad_weight", grad_weight), nullptr,
              *Argument("grad_out", grad_out), *x_arg, Argument("weight", weight), eps),
          x);
}

}  // namespace
}  // namespace kernelhub::layer_norm

KERNELHUB_FUNCTION(layer_norm, &kernelhub::layer_norm::layer_norm,
                   kernelhub::layer_norm::kLayerNorm)
KERNELHUB_FUNCTION(rms_norm, &kernelhub::layer_norm::rms_norm, kernelhub::layer_norm::kRmsNorm)
KERNELHUB_FUNCTION(layer_norm_backward, &kernelhub::layer_norm::layer_norm_backward,
                   kernelhub::layer_norm::kLayerNormBackward)
KERNELHUB_FUNCTION(rms_norm_backward, &kernelhub::layer_norm::rms_norm_backward,
                   kernelhub::layer_norm::kRmsNormBackward)

KERNELHUB_PACKAGE(KERNELHUB_STRING(TVM_FFI_EXTENSION_NAME), KERNELHUB_PACKAGE_NAME,
                  KERNELHUB_PACKAGE_VERSION, KERNELHUB_PACKAGE_BACKEND,
                  kernelhub::primitives::kPackageFlags, KERNELHUB_ROW(layer_norm),
                  KERNELHUB_ROW(rms_norm), KERNELHUB_ROW(layer_norm_backward),
                  KERNELHUB_ROW(rms_norm_backward))
