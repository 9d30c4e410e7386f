// SPDX-License-Identifier: Apache-2.0
#include <kernelhub/abi/kernel.hpp>
#include <optional>

#include "primitives/abi_args.h"
#include "rmsnorm/checks.h"

#if defined(CPU_KERNEL)
#include "rmsnorm_cpu/rmsnorm_cpu.h"
#elif defined(CUDA_KERNEL)
#include "primitives/abi_cuda.h"
#include "rmsnorm_cuda/rmsnorm_cuda.h"
#endif

namespace kernelhub::rmsnorm {
namespace {

using primitives::optional_arg;
using primitives::pointer;
using primitives::TensorArg;
using OptionalTensor = std::optional<const DLTensor*>;

void check_backend(const char* op, const TensorArg& x) {
  primitives::ArgumentCheck("rmsnorm", op)
      .on_backend(x, primitives::kDeviceType, KERNELHUB_PACKAGE_BACKEND);
}

void compute(const char* op, const Params& params, [[maybe_unused]] const DLTensor& x) {
  if (is_empty(params)) return;
#if defined(CPU_KERNEL)
  static_cast<void>(op);
  cpu::run(params, primitives::host_parallel_for());
#elif defined(CUDA_KERNEL)
  const primitives::DeviceGuard guard(x.device.device_id);
  primitives::check_launch("rmsnorm", op, params.rows, params.cols,
                           cuda::launch(params, primitives::current_stream(x.device)));
#endif
}

void write(const char* op, Casting casting, double offset, const DLTensor& out,
           const DLTensor& input, const DLTensor& weight, double eps) {
  const TensorArg out_arg = primitives::tensor_arg("out", out);
  const TensorArg x_arg = primitives::tensor_arg("input", input);
  const TensorArg weight_arg = primitives::tensor_arg("weight", weight);
  check_backend(op, x_arg);
  Arguments arguments{};
  arguments.op = op;
  arguments.casting = casting;
  arguments.out = &out_arg;
  arguments.x = &x_arg;
  arguments.weight = &weight_arg;
  arguments.eps = eps;
  arguments.offset = offset;
  compute(op, checked_params(arguments), input);
}

void rms_norm(DLTensor* out, const DLTensor* input, const DLTensor* weight, double epsilon) {
  write("rms_norm", Casting::kLlama, 0.0, *out, *input, *weight, epsilon);
}

void gemma_rms_norm(DLTensor* out, const DLTensor* input, const DLTensor* weight, double epsilon) {
  write("gemma_rms_norm", Casting::kGemma, 1.0, *out, *input, *weight, epsilon);
}

void fused_add_rms_norm(DLTensor* input, DLTensor* residual, const DLTensor* weight,
                        double epsilon) {
  const TensorArg x_arg = primitives::tensor_arg("input", *input);
  const TensorArg residual_arg = primitives::tensor_arg("residual", *residual);
  const TensorArg weight_arg = primitives::tensor_arg("weight", *weight);
  Arguments arguments{};
  arguments.op = "fused_add_rms_norm";
  check_backend(arguments.op, x_arg);
  arguments.casting = Casting::kLlama;
  arguments.out = &x_arg;
  arguments.x = &x_arg;
  arguments.residual = &residual_arg;
  arguments.sum = &residual_arg;
  arguments.weight = &weight_arg;
  arguments.eps = epsilon;
  compute(arguments.op, checked_params(arguments, true), *input);
}

void rms_norm_fwd_out(DLTensor* out, DLTensor* rstd, const DLTensor* x, OptionalTensor weight,
                      double eps, double weight_offset, std::string_view casting) {
  const TensorArg out_arg = primitives::tensor_arg("out", *out);
  const TensorArg rstd_arg = primitives::tensor_arg("rstd", *rstd);
  const TensorArg x_arg = primitives::tensor_arg("input", *x);
  const std::optional<TensorArg> weight_arg = optional_arg("weight", weight);
  Arguments arguments{};
  arguments.op = "rms_norm_fwd_out";
  check_backend(arguments.op, x_arg);
  arguments.casting = checked_casting(arguments.op, casting);
  arguments.out = &out_arg;
  arguments.rstd = &rstd_arg;
  arguments.x = &x_arg;
  arguments.weight = pointer(weight_arg);
  arguments.eps = eps;
  arguments.offset = weight_offset;
  compute(arguments.op, checked_params(arguments), *x);
}

std::int64_t rms_norm_bwd_workspace(const DLTensor* x) {
  constexpr const char* kOp = "rms_norm_bwd_workspace";
  const TensorArg x_arg = primitives::tensor_arg("input", *x);
  check_backend(kOp, x_arg);
  const primitives::ArgumentCheck check("rmsnorm", kOp);
  const primitives::RowLayout rows = check.rows(x_arg);
#if defined(CPU_KERNEL)
  return cpu::backward_workspace(rows.rows, rows.cols);
#elif defined(CUDA_KERNEL)
  const primitives::DeviceGuard guard(x_arg.device_index);
  std::int64_t size = 0;
  primitives::check_launch(
      "rmsnorm", kOp, rows.rows, rows.cols,
      cuda::backward_workspace(check.supported_dtype(x_arg), rows.rows, rows.cols, &size));
  return size;
#endif
}

/// Memory of at least `size` bytes.
void* checked_workspace(const char* op, const std::optional<TensorArg>& workspace,
                        const TensorArg& x, std::int64_t size) {
  const primitives::ArgumentCheck check("rmsnorm", op);
  const auto fail = [&](const char* what, const std::string& got) {
    check.fail("workspace", what, std::to_string(size) + " bytes of uint8, aligned to 16", got);
  };
  if (!workspace.has_value()) fail("value", "none");
  check.same_device(*workspace, x);
  const bool is_bytes =
      workspace->dtype == primitives::DTypeCode{primitives::DTypeCode::kUInt, 8, 1};
  const bool is_dense = workspace->sizes.size() == 1 && workspace->strides[0] == 1;
  if (!is_bytes || !is_dense || workspace->numel() < size ||
      reinterpret_cast<std::uintptr_t>(workspace->data) % 16 != 0) {
    fail("memory", primitives::list_text(workspace->sizes) + " of " +
                       primitives::dtype_name(workspace->dtype));
  }
  return workspace->data;
}

/// Takes the workspace of a call that needs one, and computes.
void compute_backward(const char* op, BackwardParams& params,
                      const std::optional<TensorArg>& workspace, const TensorArg& x,
                      [[maybe_unused]] const DLTensor& tensor) {
#if defined(CPU_KERNEL)
  if (params.grad_weight != nullptr) {
    params.workspace =
        checked_workspace(op, workspace, x, cpu::backward_workspace(params.rows, params.cols));
  }
  cpu::run_backward(params, primitives::host_parallel_for());
#elif defined(CUDA_KERNEL)
  const primitives::DeviceGuard guard(tensor.device.device_id);
  const auto check_status = [&](cudaError_t status) {
    primitives::check_launch("rmsnorm", op, params.rows, params.cols, status);
  };
  cuda::BackwardPlan plan{};
  check_status(cuda::plan_backward(params, &plan));
  if (params.grad_weight != nullptr) {
    params.workspace = checked_workspace(op, workspace, x, plan.workspace_bytes);
  }
  check_status(cuda::launch_backward(params, plan, primitives::current_stream(tensor.device)));
#endif
}

void rms_norm_bwd_out(std::optional<DLTensor*> grad_x, std::optional<DLTensor*> grad_weight,
                      std::optional<DLTensor*> workspace, const DLTensor* grad_out,
                      const DLTensor* x, OptionalTensor weight, const DLTensor* rstd, double eps,
                      double weight_offset) {
  const TensorArg grad_out_arg = primitives::tensor_arg("grad_out", *grad_out);
  const TensorArg x_arg = primitives::tensor_arg("input", *x);
  const TensorArg rstd_arg = primitives::tensor_arg("rstd", *rstd);
  const std::optional<TensorArg> weight_arg = optional_arg("weight", weight);
  const std::optional<TensorArg> grad_x_arg = optional_arg("grad_input", grad_x);
  const std::optional<TensorArg> grad_weight_arg = optional_arg("grad_weight", grad_weight);
  const std::optional<TensorArg> workspace_arg = optional_arg("workspace", workspace);
  BackwardArguments arguments{};
  arguments.op = "rms_norm_bwd_out";
  check_backend(arguments.op, x_arg);
  arguments.grad_x = pointer(grad_x_arg);
  arguments.grad_weight = pointer(grad_weight_arg);
  arguments.grad_out = &grad_out_arg;
  arguments.x = &x_arg;
  arguments.weight = pointer(weight_arg);
  arguments.rstd = &rstd_arg;
  arguments.eps = eps;
  arguments.offset = weight_offset;
  BackwardParams params = checked_params(arguments);
  if (params.cols == 0 || (params.grad_x == nullptr && params.grad_weight == nullptr)) return;
  if (params.rows == 0) {
    if (params.grad_weight == nullptr) return;
    const primitives::ArgumentCheck check("rmsnorm", arguments.op);
    check.fail("grad_input", "rows", "at least 1 where grad_weight is asked for", "0");
  }
  compute_backward(arguments.op, params, workspace_arg, x_arg, *x);
}

}  // namespace
}  // namespace kernelhub::rmsnorm

KERNELHUB_FUNCTION(rms_norm, &kernelhub::rmsnorm::rms_norm,
                   "rms_norm(Tensor! out, Tensor input, Tensor weight, float epsilon) -> ()")
KERNELHUB_FUNCTION(gemma_rms_norm, &kernelhub::rmsnorm::gemma_rms_norm,
                   "gemma_rms_norm(Tensor! out, Tensor input, Tensor weight, float epsilon) -> ()")
KERNELHUB_FUNCTION(
    fused_add_rms_norm, &kernelhub::rmsnorm::fused_add_rms_norm,
    "fused_add_rms_norm(Tensor! input, Tensor! residual, Tensor weight, float epsilon) -> ()")
KERNELHUB_FUNCTION(rms_norm_fwd_out, &kernelhub::rmsnorm::rms_norm_fwd_out,
                   "rms_norm_fwd_out(Tensor! out, Tensor! rstd, Tensor x, Tensor? weight, float "
                   "eps, float weight_offset, str casting) -> ()")
KERNELHUB_FUNCTION(rms_norm_bwd_workspace, &kernelhub::rmsnorm::rms_norm_bwd_workspace,
                   "rms_norm_bwd_workspace(Tensor x) -> int")
KERNELHUB_FUNCTION(rms_norm_bwd_out, &kernelhub::rmsnorm::rms_norm_bwd_out,
                   "rms_norm_bwd_out(Tensor(a!)? grad_input, Tensor(b!)? grad_weight, Tensor(c!)? "
                   "workspace, Tensor grad_out, Tensor x, Tensor? weight, Tensor rstd, float eps, "
                   "float weight_offset) -> ()")

KERNELHUB_PACKAGE(KERNELHUB_STRING(TVM_FFI_EXTENSION_NAME), KERNELHUB_PACKAGE_NAME,
                  KERNELHUB_PACKAGE_VERSION, KERNELHUB_PACKAGE_BACKEND,
                  kernelhub::primitives::kPackageFlags, KERNELHUB_ROW(rms_norm),
                  KERNELHUB_ROW(gemma_rms_norm), KERNELHUB_ROW(fused_add_rms_norm),
                  KERNELHUB_ROW(rms_norm_fwd_out), KERNELHUB_ROW(rms_norm_bwd_workspace),
                  KERNELHUB_ROW(rms_norm_bwd_out))
