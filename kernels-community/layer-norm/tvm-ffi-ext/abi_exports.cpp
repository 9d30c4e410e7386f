// SPDX-License-Identifier: Apache-2.0
#include <kernelhub/abi/kernel.hpp>
#include <optional>

#include "layer_norm/checks.h"
#include "primitives/abi_args.h"

#if defined(CPU_KERNEL)
#include "layer_norm_cpu/layer_norm_cpu.h"
#elif defined(CUDA_KERNEL)
#include "layer_norm_cuda/layer_norm_cuda.h"
#include "primitives/abi_cuda.h"
#endif

namespace kernelhub::layer_norm {
namespace {

#if defined(CPU_KERNEL)
constexpr std::int32_t kDeviceType = kDLCPU;
constexpr std::uint64_t kPackageFlags = KH_THREAD_SAFE | KH_UNLOADABLE | KH_NO_GLOBAL_STATE;
#elif defined(CUDA_KERNEL)
constexpr std::int32_t kDeviceType = kDLCUDA;
constexpr std::uint64_t kPackageFlags =
    KH_THREAD_SAFE | KH_STREAM_AWARE | KH_GRAPH_SAFE | KH_NO_GLOBAL_STATE;
#endif

using OptionalTensor = std::optional<const DLTensor*>;

std::optional<primitives::TensorArg> optional_arg(const char* name, const OptionalTensor& tensor) {
  if (!tensor.has_value()) return std::nullopt;
  return primitives::tensor_arg(name, **tensor);
}

void layer_norm(DLTensor* out, const DLTensor* x, OptionalTensor weight, OptionalTensor bias,
                double eps) {
  const primitives::TensorArg x_arg = primitives::tensor_arg("x", *x);
  primitives::ArgumentCheck("layer_norm", "layer_norm")
      .on_backend(x_arg, kDeviceType, KERNELHUB_PACKAGE_BACKEND);
  const auto weight_arg = optional_arg("weight", weight);
  const auto bias_arg = optional_arg("bias", bias);
  const Params params =
      checked_params(primitives::tensor_arg("out", *out), x_arg,
                     weight_arg ? &*weight_arg : nullptr, bias_arg ? &*bias_arg : nullptr, eps);
  if (params.rows == 0 || params.cols == 0) return;
#if defined(CPU_KERNEL)
  cpu::run(params, primitives::host_parallel_for());
#elif defined(CUDA_KERNEL)
  const primitives::DeviceGuard guard(x->device.device_id);
  primitives::check_launch("layer_norm", "layer_norm", params.rows, params.cols,
                           cuda::launch(params, primitives::current_stream(x->device)));
#endif
}

}  // namespace
}  // namespace kernelhub::layer_norm

KERNELHUB_FUNCTION(
    layer_norm, &kernelhub::layer_norm::layer_norm,
    "layer_norm(Tensor! out, Tensor x, Tensor? weight, Tensor? bias, float eps) -> ()")

KERNELHUB_PACKAGE(KERNELHUB_STRING(TVM_FFI_EXTENSION_NAME), KERNELHUB_PACKAGE_NAME,
                  KERNELHUB_PACKAGE_VERSION, KERNELHUB_PACKAGE_BACKEND,
                  kernelhub::layer_norm::kPackageFlags, KERNELHUB_ROW(layer_norm))
