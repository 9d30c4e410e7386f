// SPDX-License-Identifier: Apache-2.0
#include "registration.h"

#include <torch/csrc/stable/library.h>

#include "primitives/torch_args.h"
#include "rmsnorm/checks.h"

#if defined(CPU_KERNEL)
#include "rmsnorm_cpu/rmsnorm_cpu.h"
#elif defined(CUDA_KERNEL)
#include "primitives/torch_cuda.h"
#include "rmsnorm_cuda/rmsnorm_cuda.h"
#endif

namespace kernelhub::rmsnorm {
namespace {

using primitives::as_contiguous;
using primitives::optional_arg;
using primitives::pointer;
using primitives::tensor_arg;
using primitives::TensorArg;
using primitives::Text;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

void compute(const char* op, const Params& params, [[maybe_unused]] const Tensor& x) {
  if (is_empty(params)) return;
#if defined(CPU_KERNEL)
  static_cast<void>(op);
  cpu::run(params, primitives::torch_parallel_for());
#elif defined(CUDA_KERNEL)
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  primitives::check_launch("rmsnorm", op, params.rows, params.cols,
                           cuda::launch(params, primitives::current_stream(x)));
#endif
}

void compute_backward(const char* op, BackwardParams& params, const Tensor& x) {
#if defined(CPU_KERNEL)
  static_cast<void>(op);
  std::optional<Tensor> workspace;
  if (params.grad_weight != nullptr) {
    const std::int64_t size = cpu::backward_workspace(params.rows, params.cols);
    workspace = primitives::new_tensor(x, {size / 4}, ScalarType::Float);
    params.workspace = workspace->data_ptr();
  }
  cpu::run_backward(params, primitives::torch_parallel_for());
#elif defined(CUDA_KERNEL)
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  cuda::BackwardPlan plan{};
  cudaError_t status = cuda::plan_backward(params, &plan);
  std::optional<Tensor> workspace;
  if (status == cudaSuccess && params.grad_weight != nullptr) {
    workspace = primitives::new_tensor(x, {plan.workspace_bytes / 4}, ScalarType::Float);
    params.workspace = workspace->data_ptr();
  }
  if (status == cudaSuccess) {
    status = cuda::launch_backward(params, plan, primitives::current_stream(x));
  }
  primitives::check_launch("rmsnorm", op, params.rows, params.cols, status);
#endif
}

/// Contiguous, of the shape of x.
Tensor new_like(const Tensor& x, ScalarType dtype) {
  return primitives::new_tensor(x, primitives::sizes_of(x), dtype);
}

struct Results {
  Tensor out;
  Tensor rstd;
  std::optional<Tensor> sum;  // where there is a residual
};

/// The functional forms: checks, then allocates, then computes.
Results normalize(const char* op, Casting casting, const Tensor& x,
                  const std::optional<Tensor>& residual, const std::optional<Tensor>& weight,
                  double eps, double offset) {
  const TensorArg x_arg = tensor_arg("input", x);
  const std::optional<TensorArg> weight_arg = optional_arg("weight", weight);
  Arguments arguments{};
  arguments.op = op;
  arguments.casting = casting;
  arguments.x = &x_arg;
  arguments.weight = pointer(weight_arg);
  arguments.eps = eps;
  arguments.offset = offset;
  check_inputs(arguments);
  const auto out_dtype =
      result_dtype(casting, x_arg.dtype, weight_arg.has_value() ? &weight_arg->dtype : nullptr);
  Results results{
      new_like(x, out_dtype == x_arg.dtype ? x.scalar_type() : ScalarType::Float),
      primitives::new_tensor(x, {x_arg.sizes.begin(), x_arg.sizes.size() - 1}, ScalarType::Float),
      std::nullopt};
  const TensorArg out_arg = tensor_arg("output", results.out);
  const TensorArg rstd_arg = tensor_arg("rstd", results.rstd);
  arguments.out = &out_arg;
  arguments.rstd = &rstd_arg;
  std::optional<TensorArg> residual_arg;
  std::optional<TensorArg> sum_arg;
  if (residual.has_value()) {
    results.sum = new_like(x, x.scalar_type());
    residual_arg = tensor_arg("residual", *residual);
    sum_arg = tensor_arg("sum", *results.sum);
    arguments.residual = &*residual_arg;
    arguments.sum = &*sum_arg;
  }
  compute(op, checked_params(arguments), x);
  return results;
}

/// Each where it is asked for.
struct Gradients {
  std::optional<Tensor> x;
  std::optional<Tensor> weight;
};

Gradients differentiate(const char* op, const Tensor& grad_out, const Tensor& x,
                        const std::optional<Tensor>& weight, const Tensor& rstd, double eps,
                        double offset, bool has_grad_x, bool has_grad_weight) {
  const TensorArg grad_out_arg = tensor_arg("grad_output", grad_out);
  const TensorArg x_arg = tensor_arg("input", x);
  const TensorArg rstd_arg = tensor_arg("rstd", rstd);
  const std::optional<TensorArg> weight_arg = optional_arg("weight", weight);
  BackwardArguments arguments{};
  arguments.op = op;
  arguments.grad_out = &grad_out_arg;
  arguments.x = &x_arg;
  arguments.weight = pointer(weight_arg);
  arguments.rstd = &rstd_arg;
  arguments.eps = eps;
  arguments.offset = offset;
  check_inputs(arguments);
  Gradients gradients;
  std::optional<TensorArg> grad_x_arg;
  std::optional<TensorArg> grad_weight_arg;
  if (has_grad_x) {
    gradients.x = new_like(x, x.scalar_type());
    grad_x_arg = tensor_arg("grad_input", *gradients.x);
    arguments.grad_x = &*grad_x_arg;
  }
  if (has_grad_weight && weight.has_value()) {
    gradients.weight = new_like(*weight, weight->scalar_type());
    grad_weight_arg = tensor_arg("grad_weight", *gradients.weight);
    arguments.grad_weight = &*grad_weight_arg;
  }
  BackwardParams params = checked_params(arguments);
  if (params.rows == 0 || params.cols == 0) {
    if (params.grad_weight != nullptr) torch::stable::zero_(*gradients.weight);
  } else if (params.grad_x != nullptr || params.grad_weight != nullptr) {
    compute_backward(op, params, x);
  }
  return gradients;
}

void write(const char* op, Casting casting, double offset, const Tensor& out, const Tensor& input,
           const Tensor& weight, double eps) {
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
  compute(op, checked_params(arguments), input);
}

void rms_norm(const Tensor& out, const Tensor& input, const Tensor& weight, double epsilon) {
  write("rms_norm", Casting::kLlama, 0.0, out, input, weight, epsilon);
}

void gemma_rms_norm(const Tensor& out, const Tensor& input, const Tensor& weight, double epsilon) {
  write("gemma_rms_norm", Casting::kGemma, 1.0, out, input, weight, epsilon);
}

void fused_add_rms_norm(const Tensor& input, const Tensor& residual, const Tensor& weight,
                        double epsilon) {
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
  compute(arguments.op, checked_params(arguments, true), input);
}

std::vector<Tensor> apply_rms_norm(const Tensor& hidden_states, const Tensor& weight,
                                   double variance_epsilon) {
  const Results results = normalize("apply_rms_norm", Casting::kLlama, hidden_states, std::nullopt,
                                    weight, variance_epsilon, 0.0);
  return {results.out, results.rstd};
}

std::vector<Tensor> apply_rms_norm_backward(const Tensor& grad_output, const Tensor& hidden_states,
                                            const Tensor& weight, const Tensor& output,
                                            const Tensor& rstd, double variance_epsilon,
                                            bool input_requires_grad, bool weight_requires_grad) {
  static_cast<void>(output);
  const Gradients gradients =
      differentiate("apply_rms_norm_backward", grad_output, hidden_states, weight, rstd,
                    variance_epsilon, 0.0, input_requires_grad, weight_requires_grad);
  return {gradients.x.value_or(Tensor()), gradients.weight.value_or(Tensor())};
}

std::vector<Tensor> apply_gemma_rms_norm(const Tensor& hidden_states, const Tensor& weight,
                                         double variance_epsilon) {
  const Results results = normalize("apply_gemma_rms_norm", Casting::kGemma, hidden_states,
                                    std::nullopt, weight, variance_epsilon, 1.0);
  return {results.out, results.rstd};
}

std::tuple<Tensor, Tensor> rms_norm_fwd(const Tensor& x, const std::optional<Tensor>& weight,
                                        double eps, double weight_offset, const Text& casting) {
  const Results results = normalize("rms_norm_fwd", checked_casting("rms_norm_fwd", casting.view()),
                                    x, std::nullopt, weight, eps, weight_offset);
  return {results.out, results.rstd};
}

std::tuple<Tensor, Tensor, Tensor> fused_add_rms_norm_fwd(const Tensor& x, const Tensor& residual,
                                                          const std::optional<Tensor>& weight,
                                                          double eps, double weight_offset,
                                                          const Text& casting) {
  constexpr const char* kOp = "fused_add_rms_norm_fwd";
  const Results results =
      normalize(kOp, checked_casting(kOp, casting.view()), x, residual, weight, eps, weight_offset);
  return {results.out, *results.sum, results.rstd};
}

/// An empty tensor stands for a gradient that nobody asks for.
std::tuple<Tensor, Tensor> rms_norm_bwd(const Tensor& grad_out, const Tensor& x,
                                        const std::optional<Tensor>& weight, const Tensor& rstd,
                                        double eps, double weight_offset, bool input_requires_grad,
                                        bool weight_requires_grad) {
  const Gradients gradients =
      differentiate("rms_norm_bwd", grad_out, x, weight, rstd, eps, weight_offset,
                    input_requires_grad, weight_requires_grad);
  const auto given = [&](const std::optional<Tensor>& gradient) {
    return gradient.has_value() ? *gradient : primitives::new_tensor(x, {0}, x.scalar_type());
  };
  return {given(gradients.x), given(gradients.weight)};
}

// The forms of eager mode, registered without autograd, which is Python's there: tensors of any
// layout, the bits of the functional ops.

std::tuple<Tensor, Tensor> rms_norm_fwd_nograd(const Tensor& x, const std::optional<Tensor>& weight,
                                               double eps, double weight_offset,
                                               const Text& casting) {
  return rms_norm_fwd(as_contiguous(x), weight, eps, weight_offset, casting);
}

std::tuple<Tensor, Tensor, Tensor> fused_add_rms_norm_fwd_nograd(
    const Tensor& x, const Tensor& residual, const std::optional<Tensor>& weight, double eps,
    double weight_offset, const Text& casting) {
  return fused_add_rms_norm_fwd(as_contiguous(x), as_contiguous(residual), weight, eps,
                                weight_offset, casting);
}

std::tuple<Tensor, Tensor> rms_norm_bwd_nograd(const Tensor& grad_out, const Tensor& x,
                                               const std::optional<Tensor>& weight,
                                               const Tensor& rstd, double eps, double weight_offset,
                                               bool input_requires_grad,
                                               bool weight_requires_grad) {
  return rms_norm_bwd(as_contiguous(grad_out), as_contiguous(x), weight, rstd, eps, weight_offset,
                      input_requires_grad, weight_requires_grad);
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
