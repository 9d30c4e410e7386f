// SPDX-License-Identifier: Apache-2.0
#include "registration.h"

#include <torch/csrc/stable/library.h>

#include <utility>

#include "primitives/torch_args.h"
#include "rmsnorm/checks.h"

#if defined(CPU_KERNEL)
#include "primitives/column_workspace.h"
#include "rmsnorm_cpu/rmsnorm_cpu.h"
#elif defined(CUDA_KERNEL)
#include "primitives/torch_cuda.h"
#include "rmsnorm_cuda/rmsnorm_cuda.h"
#endif

namespace kernelhub::rmsnorm {
namespace {

using primitives::ContiguousArg;
using primitives::data_of;
using primitives::DType;
using primitives::new_tensor;
using primitives::optional_arg;
using primitives::pointer;
using primitives::tensor_arg;
using primitives::TensorArg;
using primitives::TensorHandle;
using primitives::TensorResult;
using primitives::Text;

void compute(const char* op, const Params& params, [[maybe_unused]] const TensorArg& x) {
  if (is_empty(params)) return;
#if defined(CPU_KERNEL)
  static_cast<void>(op);
  cpu::run(params, primitives::torch_parallel_for());
#elif defined(CUDA_KERNEL)
  const torch::stable::accelerator::DeviceGuard guard(x.device_index);
  primitives::check_launch("rmsnorm", op, params.rows, params.cols,
                           cuda::launch(params, primitives::current_stream(x.device_index)));
#endif
}

void compute_backward(const char* op, BackwardParams& params, const TensorArg& x) {
#if defined(CPU_KERNEL)
  static_cast<void>(op);
  static_cast<void>(x);
  const bool has_sums = params.grad_weight != nullptr;
  primitives::ColumnWorkspace workspace(has_sums ? cpu::backward_workspace(params.rows, params.cols)
                                                 : 0);
  params.workspace = workspace.data();
  cpu::run_backward(params, primitives::torch_parallel_for());
#elif defined(CUDA_KERNEL)
  const torch::stable::accelerator::DeviceGuard guard(x.device_index);
  cuda::BackwardPlan plan{};
  cudaError_t status = cuda::plan_backward(params, &plan);
  TensorHandle workspace;
  if (status == cudaSuccess && params.grad_weight != nullptr) {
    workspace = new_tensor(x, {plan.workspace_bytes}, aoti_torch_dtype_uint8());
    params.workspace = data_of(workspace);
  }
  if (status == cudaSuccess) {
    status = cuda::launch_backward(params, plan, primitives::current_stream(x.device_index));
  }
  primitives::check_launch("rmsnorm", op, params.rows, params.cols, status);
#endif
}

struct Results {
  TensorHandle out;
  TensorHandle rstd;
  TensorHandle sum;  // null without a residual
};

/// The functional forms: checks, then allocates, then computes. `residual` and `weight` may be
/// null.
Results normalize(const char* op, Casting casting, const TensorArg& x, const TensorArg* residual,
                  const TensorArg* weight, double eps, double offset) {
  Arguments arguments{};
  arguments.op = op;
  arguments.casting = casting;
  arguments.x = &x;
  arguments.residual = residual;
  arguments.weight = weight;
  arguments.eps = eps;
  arguments.offset = offset;
  Params params = checked_inputs(arguments);
  Results results{new_tensor(x, x.sizes, params.out_dtype),
                  new_tensor(x, {x.sizes.begin(), x.sizes.size() - 1}, DType::kFloat32), nullptr};
  if (residual != nullptr) results.sum = new_tensor(x, x.sizes, params.dtype);
  set_new_results(params, data_of(results.out), data_of(results.rstd),
                  results.sum == nullptr ? nullptr : data_of(results.sum));
  compute(op, params, x);
  return results;
}

/// Each where it is asked for, else null.
struct Gradients {
  TensorHandle x;
  TensorHandle weight;
};

/// `weight` may be null.
Gradients differentiate(const char* op, const TensorArg& grad_out, const TensorArg& x,
                        const TensorArg* weight, const TensorHandle& rstd, double eps,
                        double offset, bool has_grad_x, bool has_grad_weight) {
  const TensorArg rstd_arg = tensor_arg("rstd", rstd);
  BackwardArguments arguments{};
  arguments.op = op;
  arguments.grad_out = &grad_out;
  arguments.x = &x;
  arguments.weight = weight;
  arguments.rstd = &rstd_arg;
  arguments.eps = eps;
  arguments.offset = offset;
  BackwardParams params = checked_inputs(arguments);
  Gradients gradients;
  if (has_grad_x) gradients.x = new_tensor(x, x.sizes, params.dtype);
  if (has_grad_weight && weight != nullptr) {
    gradients.weight = new_tensor(x, weight->sizes, params.weight_dtype);
  }
  set_new_gradients(params, gradients.x == nullptr ? nullptr : data_of(gradients.x),
                    gradients.weight == nullptr ? nullptr : data_of(gradients.weight));
  if (params.rows == 0 || params.cols == 0) {
    if (gradients.weight != nullptr) {
      TORCH_ERROR_CODE_CHECK(aoti_torch_zero_(gradients.weight.get()));
    }
  } else if (params.grad_x != nullptr || params.grad_weight != nullptr) {
    compute_backward(op, params, x);
  }
  return gradients;
}

void write(const char* op, Casting casting, double offset, const TensorHandle& out,
           const TensorHandle& input, const TensorHandle& weight, double eps) {
  const TensorArg out_arg = tensor_arg("out", out);
  const TensorArg x_arg = tensor_arg("input", input);
  const TensorArg weight_arg = tensor_arg("weight", weight);
  Arguments arguments{};
  arguments.op = op;
  arguments.casting = casting;
  arguments.out = &out_arg;
  arguments.x = &x_arg;
  arguments.weight = &weight_arg;
  arguments.eps = eps;
  arguments.offset = offset;
  compute(op, checked_params(arguments), x_arg);
}

void rms_norm(const TensorHandle& out, const TensorHandle& input, const TensorHandle& weight,
              double epsilon) {
  write("rms_norm", Casting::kLlama, 0.0, out, input, weight, epsilon);
}

void gemma_rms_norm(const TensorHandle& out, const TensorHandle& input, const TensorHandle& weight,
                    double epsilon) {
  write("gemma_rms_norm", Casting::kGemma, 1.0, out, input, weight, epsilon);
}

void fused_add_rms_norm(const TensorHandle& input, const TensorHandle& residual,
                        const TensorHandle& weight, double epsilon) {
  const TensorArg x_arg = tensor_arg("input", input);
  const TensorArg residual_arg = tensor_arg("residual", residual);
  const TensorArg weight_arg = tensor_arg("weight", weight);
  Arguments arguments{};
  arguments.op = "fused_add_rms_norm";
  arguments.casting = Casting::kLlama;
  arguments.out = &x_arg;
  arguments.x = &x_arg;
  arguments.residual = &residual_arg;
  arguments.sum = &residual_arg;
  arguments.weight = &weight_arg;
  arguments.eps = epsilon;
  compute(arguments.op, checked_params(arguments, true), x_arg);
}

// The ops of the Hub's package, whose weight is no option.

std::vector<TensorResult> apply(const char* op, Casting casting, double offset,
                                const TensorHandle& hidden_states, const TensorHandle& weight,
                                double eps) {
  const TensorArg weight_arg = tensor_arg("weight", weight);
  Results results =
      normalize(op, casting, tensor_arg("input", hidden_states), nullptr, &weight_arg, eps, offset);
  return {std::move(results.out), std::move(results.rstd)};
}

std::vector<TensorResult> apply_rms_norm(const TensorHandle& hidden_states,
                                         const TensorHandle& weight, double variance_epsilon) {
  return apply("apply_rms_norm", Casting::kLlama, 0.0, hidden_states, weight, variance_epsilon);
}

std::vector<TensorResult> apply_gemma_rms_norm(const TensorHandle& hidden_states,
                                               const TensorHandle& weight,
                                               double variance_epsilon) {
  return apply("apply_gemma_rms_norm", Casting::kGemma, 1.0, hidden_states, weight,
               variance_epsilon);
}

/// `tensor`, or what Python sees as None.
TensorHandle or_undefined(TensorHandle tensor) {
  if (tensor != nullptr) return tensor;
  AtenTensorHandle undefined = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_new_uninitialized_tensor(&undefined));
  return TensorHandle(undefined);
}

std::vector<TensorResult> apply_rms_norm_backward(
    const TensorHandle& grad_output, const TensorHandle& hidden_states, const TensorHandle& weight,
    const TensorHandle& output, const TensorHandle& rstd, double variance_epsilon,
    bool input_requires_grad, bool weight_requires_grad) {
  static_cast<void>(output);
  const TensorArg weight_arg = tensor_arg("weight", weight);
  Gradients gradients =
      differentiate("apply_rms_norm_backward", tensor_arg("grad_output", grad_output),
                    tensor_arg("input", hidden_states), &weight_arg, rstd, variance_epsilon, 0.0,
                    input_requires_grad, weight_requires_grad);
  TensorHandle grad_x = or_undefined(std::move(gradients.x));
  TensorHandle grad_weight = or_undefined(std::move(gradients.weight));
  return {std::move(grad_x), std::move(grad_weight)};
}

using Pair = std::tuple<TensorResult, TensorResult>;
using Triple = std::tuple<TensorResult, TensorResult, TensorResult>;
using MaybeTensor = std::optional<TensorHandle>;

Pair norm_and_rstd(const TensorArg& x, const MaybeTensor& weight, double eps, double weight_offset,
                   const Text& casting) {
  constexpr const char* kOp = "rms_norm_fwd";
  const std::optional<TensorArg> weight_arg = optional_arg("weight", weight);
  Results results = normalize(kOp, checked_casting(kOp, casting.view()), x, nullptr,
                              pointer(weight_arg), eps, weight_offset);
  return {std::move(results.out), std::move(results.rstd)};
}

Triple norm_sum_and_rstd(const TensorArg& x, const TensorArg& residual, const MaybeTensor& weight,
                         double eps, double weight_offset, const Text& casting) {
  constexpr const char* kOp = "fused_add_rms_norm_fwd";
  const std::optional<TensorArg> weight_arg = optional_arg("weight", weight);
  Results results = normalize(kOp, checked_casting(kOp, casting.view()), x, &residual,
                              pointer(weight_arg), eps, weight_offset);
  return {std::move(results.out), std::move(results.sum), std::move(results.rstd)};
}

/// A tensor without elements stands for a gradient that nobody asks for.
Pair gradients_of(const TensorArg& grad_out, const TensorArg& x, const MaybeTensor& weight,
                  const TensorHandle& rstd, double eps, double weight_offset,
                  bool input_requires_grad, bool weight_requires_grad) {
  const std::optional<TensorArg> weight_arg = optional_arg("weight", weight);
  Gradients gradients = differentiate("rms_norm_bwd", grad_out, x, pointer(weight_arg), rstd, eps,
                                      weight_offset, input_requires_grad, weight_requires_grad);
  const auto fill = [&x](TensorHandle& gradient) {
    const primitives::ArgumentCheck check("rmsnorm", "rms_norm_bwd");
    if (gradient == nullptr) gradient = new_tensor(x, {0}, check.supported_dtype(x));
  };
  fill(gradients.x);
  fill(gradients.weight);
  return {std::move(gradients.x), std::move(gradients.weight)};
}

Pair rms_norm_fwd(const TensorHandle& x, const MaybeTensor& weight, double eps,
                  double weight_offset, const Text& casting) {
  return norm_and_rstd(tensor_arg("input", x), weight, eps, weight_offset, casting);
}

Triple fused_add_rms_norm_fwd(const TensorHandle& x, const TensorHandle& residual,
                              const MaybeTensor& weight, double eps, double weight_offset,
                              const Text& casting) {
  return norm_sum_and_rstd(tensor_arg("input", x), tensor_arg("residual", residual), weight, eps,
                           weight_offset, casting);
}

Pair rms_norm_bwd(const TensorHandle& grad_out, const TensorHandle& x, const MaybeTensor& weight,
                  const TensorHandle& rstd, double eps, double weight_offset,
                  bool input_requires_grad, bool weight_requires_grad) {
  return gradients_of(tensor_arg("grad_output", grad_out), tensor_arg("input", x), weight, rstd,
                      eps, weight_offset, input_requires_grad, weight_requires_grad);
}

// The forms of eager mode, registered without autograd, which is Python's there: tensors of any
// layout, the bits of the functional ops.

Pair rms_norm_fwd_nograd(const TensorHandle& x, const MaybeTensor& weight, double eps,
                         double weight_offset, const Text& casting) {
  return norm_and_rstd(*ContiguousArg("input", x), weight, eps, weight_offset, casting);
}

Triple fused_add_rms_norm_fwd_nograd(const TensorHandle& x, const TensorHandle& residual,
                                     const MaybeTensor& weight, double eps, double weight_offset,
                                     const Text& casting) {
  return norm_sum_and_rstd(*ContiguousArg("input", x), *ContiguousArg("residual", residual), weight,
                           eps, weight_offset, casting);
}

Pair rms_norm_bwd_nograd(const TensorHandle& grad_out, const TensorHandle& x,
                         const MaybeTensor& weight, const TensorHandle& rstd, double eps,
                         double weight_offset, bool input_requires_grad,
                         bool weight_requires_grad) {
  return gradients_of(*ContiguousArg("grad_output", grad_out), *ContiguousArg("input", x), weight,
                      rstd, eps, weight_offset, input_requires_grad, weight_requires_grad);
}

void register_kernels(torch::stable::detail::StableLibrary& m) {
  m.impl("rms_norm", TORCH_BOX(&rms_norm));
  m.impl("gemma_rms_norm", TORCH_BOX(&gemma_rms_norm));
  m.impl("fused_add_rms_norm", TORCH_BOX(&fused_add_rms_norm));
  m.impl("apply_rms_norm", TORCH_BOX(&apply_rms_norm));
  m.impl("apply_rms_norm_backward", TORCH_BOX(&apply_rms_norm_backward));
  m.impl("apply_gemma_rms_norm", TORCH_BOX(&apply_gemma_rms_norm));
  m.impl("rms_norm_fwd", TORCH_BOX(&rms_norm_fwd));
  m.impl("fused_add_rms_norm_fwd", TORCH_BOX(&fused_add_rms_norm_fwd));
  m.impl("rms_norm_bwd", TORCH_BOX(&rms_norm_bwd));
  m.impl("rms_norm_fwd_nograd", TORCH_BOX(&rms_norm_fwd_nograd));
  m.impl("fused_add_rms_norm_fwd_nograd", TORCH_BOX(&fused_add_rms_norm_fwd_nograd));
  m.impl("rms_norm_bwd_nograd", TORCH_BOX(&rms_norm_bwd_nograd));
}

}  // namespace
}  // namespace kernelhub::rmsnorm

STABLE_TORCH_LIBRARY_EXPAND(TORCH_EXTENSION_NAME, m) {
  m.def("rms_norm(Tensor! out, Tensor input, Tensor weight, float epsilon) -> ()");
  m.def("gemma_rms_norm(Tensor! out, Tensor input, Tensor weight, float epsilon) -> ()");
  m.def("fused_add_rms_norm(Tensor! input, Tensor! residual, Tensor weight, float epsilon) -> ()");
  m.def("apply_rms_norm(Tensor hidden_states, Tensor weight, float variance_epsilon) -> Tensor[]");
  m.def(
      "apply_rms_norm_backward(Tensor grad_output, Tensor hidden_states, Tensor weight, Tensor "
      "output, Tensor rstd, float variance_epsilon, bool input_requires_grad, bool "
      "weight_requires_grad) -> Tensor[]");
  m.def(
      "apply_gemma_rms_norm(Tensor hidden_states, Tensor weight, float variance_epsilon) -> "
      "Tensor[]");
  for (const char* schema : {
           "rms_norm_fwd(Tensor x, Tensor? weight, float eps, float weight_offset, str casting) -> "
           "(Tensor, Tensor)",
           "rms_norm_fwd_nograd(Tensor x, Tensor? weight, float eps, float weight_offset, str "
           "casting) -> (Tensor, Tensor)",
           "fused_add_rms_norm_fwd(Tensor x, Tensor residual, Tensor? weight, float eps, float "
           "weight_offset, str casting) -> (Tensor, Tensor, Tensor)",
           "fused_add_rms_norm_fwd_nograd(Tensor x, Tensor residual, Tensor? weight, float eps, "
           "float weight_offset, str casting) -> (Tensor, Tensor, Tensor)",
           "rms_norm_bwd(Tensor grad_out, Tensor x, Tensor? weight, Tensor rstd, float eps, float "
           "weight_offset, bool input_requires_grad, bool weight_requires_grad) -> (Tensor, "
           "Tensor)",
           "rms_norm_bwd_nograd(Tensor grad_out, Tensor x, Tensor? weight, Tensor rstd, float eps, "
           "float weight_offset, bool input_requires_grad, bool weight_requires_grad) -> (Tensor, "
           "Tensor)",
       }) {
    m.def(schema);
  }
}

#if defined(CPU_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CPU, m) {
  kernelhub::rmsnorm::register_kernels(m);
}
#elif defined(CUDA_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CUDA, m) {
  kernelhub::rmsnorm::register_kernels(m);
}
#endif

REGISTER_EXTENSION(TORCH_EXTENSION_NAME)
