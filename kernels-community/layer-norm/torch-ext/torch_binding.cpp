// SPDX-License-Identifier: Apache-2.0
#include "registration.h"

#include <torch/csrc/stable/library.h>

#include <optional>
#include <utility>

#include "layer_norm/checks.h"
#include "layer_norm/schemas.h"
#include "primitives/torch_args.h"

#if defined(CPU_KERNEL)
#include "layer_norm_cpu/layer_norm_cpu.h"
#elif defined(CUDA_KERNEL)
#include "layer_norm_cuda/layer_norm_cuda.h"
#include "primitives/torch_cuda.h"
#endif

namespace kernelhub::layer_norm {
namespace {

using primitives::ContiguousArg;
using primitives::data_of;
using primitives::DType;
using primitives::new_tensor;
using primitives::tensor_arg;
using primitives::TensorArg;
using primitives::TensorHandle;
using primitives::TensorResult;
using torch::headeronly::ScalarType;
using MaybeTensor = std::optional<TensorHandle>;

/// A tensor argument described for the checks; converts to null where the caller gave none.
class Argument {
 public:
  Argument(const char* name, const TensorHandle& tensor) : arg_(tensor_arg(name, tensor)) {}
  Argument(const char* name, const MaybeTensor& tensor)
      : arg_(tensor.has_value() ? tensor_arg(name, *tensor) : TensorArg{}),
        is_given_(tensor.has_value()) {}
  operator OptionalArg() const { return is_given_ ? &arg_ : nullptr; }
  const TensorArg& operator*() const { return arg_; }

 private:
  TensorArg arg_;
  bool is_given_ = true;
};

template <class Call>
void compute(const char* op, const Call& params, [[maybe_unused]] const TensorArg& x) {
  if (is_empty(params)) return;
#if defined(CPU_KERNEL)
  static_cast<void>(op);
  cpu::run(params, primitives::torch_parallel_for());
#elif defined(CUDA_KERNEL)
  const torch::stable::accelerator::DeviceGuard guard(x.device_index);
  primitives::check_launch("layer_norm", op, params.rows, params.cols,
                           cuda::launch(params, primitives::current_stream(x.device_index)));
#endif
}

#if defined(CUDA_KERNEL)
void compute(const char* op, const FusedBackwardParams& params, const TensorArg& x) {
  if (is_empty(params)) return;
  const torch::stable::accelerator::DeviceGuard guard(x.device_index);
  cuda::BackwardPlan plan{};
  cudaError_t status = cuda::plan_backward(params, &plan);
  // torch's allocator keeps the memory for this stream until the kernels are done with it.
  TensorHandle workspace;
  if (status == cudaSuccess && plan.workspace_bytes > 0) {
    workspace = new_tensor(x, {plan.workspace_bytes}, aoti_torch_dtype_uint8());
  }
  if (status == cudaSuccess) {
    void* memory = workspace == nullptr ? nullptr : data_of(workspace);
    status =
        cuda::launch_backward(params, plan, memory, primitives::current_stream(x.device_index));
  }
  primitives::check_launch("layer_norm", op, params.rows, params.cols, status);
}
#endif

void layer_norm(const TensorHandle& out, const TensorHandle& x, const MaybeTensor& weight,
                const MaybeTensor& bias, double eps) {
  const TensorArg x_arg = tensor_arg("x", x);
  compute("layer_norm",
          checked_params(Norm::kLayer, tensor_arg("out", out), x_arg, Argument("weight", weight),
                         Argument("bias", bias), eps),
          x_arg);
}

void rms_norm(const TensorHandle& out, const TensorHandle& x, const MaybeTensor& weight,
              double eps) {
  const TensorArg x_arg = tensor_arg("x", x);
  compute("rms_norm",
          checked_params(Norm::kRms, tensor_arg("out", out), x_arg, Argument("weight", weight),
                         nullptr, eps),
          x_arg);
}

void layer_norm_backward(const MaybeTensor& grad_x, const MaybeTensor& grad_weight,
                         const MaybeTensor& grad_bias, const TensorHandle& grad_out,
                         const TensorHandle& x, const MaybeTensor& weight, double eps) {
  const TensorArg x_arg = tensor_arg("x", x);
  compute("layer_norm_backward",
          checked_backward_params(
              Norm::kLayer, Argument("grad_x", grad_x), Argument("grad_weight", grad_weight),
              Argument("grad_bias", grad_bias), tensor_arg("grad_out", grad_out), x_arg,
              Argument("weight", weight), eps),
          x_arg);
}

void rms_norm_backward(const MaybeTensor& grad_x, const MaybeTensor& grad_weight,
                       const TensorHandle& grad_out, const TensorHandle& x,
                       const MaybeTensor& weight, double eps) {
  const TensorArg x_arg = tensor_arg("x", x);
  compute("rms_norm_backward",
          checked_backward_params(
              Norm::kRms, Argument("grad_x", grad_x), Argument("grad_weight", grad_weight), nullptr,
              tensor_arg("grad_out", grad_out), x_arg, Argument("weight", weight), eps),
          x_arg);
}

TensorResult normalized(const char* op, Norm norm, const ContiguousArg& x,
                        const ContiguousArg& weight, const ContiguousArg& bias, double eps) {
  Params params = checked_inputs(norm, *x, weight.get(), bias.get(), eps);
  TensorHandle out = new_tensor(*x, (*x).sizes, params.dtype);
  params.out = data_of(out);
  compute(op, params, *x);
  return out;
}

TensorResult layer_norm_fwd_nograd(const TensorHandle& x, const MaybeTensor& weight,
                                   const MaybeTensor& bias, double eps) {
  return normalized("layer_norm", Norm::kLayer, {"x", x}, {"weight", weight}, {"bias", bias}, eps);
}

TensorResult rms_norm_fwd_nograd(const TensorHandle& x, const MaybeTensor& weight, double eps) {
  return normalized("rms_norm", Norm::kRms, {"x", x}, {"weight", weight}, {"bias", MaybeTensor()},
                    eps);
}

/// New gradients of a plain norm, without elements where nobody asks for them.
struct PlainGradients {
  TensorHandle x, weight, bias;
};

PlainGradients plain_gradients(const char* op, Norm norm, const ContiguousArg& grad_out,
                               const ContiguousArg& x, const ContiguousArg& weight,
                               std::optional<ScalarType> bias_dtype, double eps, bool needs_x,
                               bool needs_weight, bool needs_bias) {
  std::optional<primitives::DTypeCode> bias_code;
  if (bias_dtype.has_value()) bias_code = primitives::dtype_code(*bias_dtype);
  FusedBackwardParams params =
      checked_backward_inputs(norm, *grad_out, *x, weight.get(), bias_code, eps);
  const auto new_gradient = [&x](bool is_wanted, primitives::Extents sizes, DType dtype) {
    constexpr std::int64_t kZero = 0;
    return new_tensor(*x, is_wanted ? sizes : primitives::Extents(&kZero, 1), dtype);
  };
  const std::int64_t cols[] = {params.cols};
  PlainGradients gradients{new_gradient(needs_x, (*x).sizes, params.dtype),
                           new_gradient(needs_weight, {cols, 1}, params.weight_dtype), nullptr};
  if (norm == Norm::kLayer) {
    gradients.bias = new_gradient(needs_bias, {cols, 1}, params.weight_dtype);
  }
  if (needs_x) params.dx0 = {data_of(gradients.x), params.cols};
  if (needs_weight) params.dgamma0 = data_of(gradients.weight);
  if (needs_bias) params.dbeta0 = data_of(gradients.bias);
  compute(op, params, *x);
  return gradients;
}

std::tuple<TensorResult, TensorResult, TensorResult> layer_norm_bwd_nograd(
    const TensorHandle& grad_out, const TensorHandle& x, const MaybeTensor& weight, double eps,
    bool needs_x, bool needs_weight, bool needs_bias, std::optional<ScalarType> bias_dtype) {
  PlainGradients grads =
      plain_gradients("layer_norm_backward", Norm::kLayer, {"grad_out", grad_out}, {"x", x},
                      {"weight", weight}, bias_dtype, eps, needs_x, needs_weight, needs_bias);
  return {std::move(grads.x), std::move(grads.weight), std::move(grads.bias)};
}

std::tuple<TensorResult, TensorResult> rms_norm_bwd_nograd(const TensorHandle& grad_out,
                                                           const TensorHandle& x,
                                                           const MaybeTensor& weight, double eps,
                                                           bool needs_x, bool needs_weight) {
  PlainGradients grads =
      plain_gradients("rms_norm_backward", Norm::kRms, {"grad_out", grad_out}, {"x", x},
                      {"weight", weight}, std::nullopt, eps, needs_x, needs_weight, false);
  return {std::move(grads.x), std::move(grads.weight)};
}

void dropout_add_norm(const TensorHandle& z0, const MaybeTensor& z1, const MaybeTensor& x,
                      const MaybeTensor& dmask0, const MaybeTensor& dmask1, const MaybeTensor& mu,
                      const MaybeTensor& rsigma, const TensorHandle& x0, const MaybeTensor& x1,
                      const MaybeTensor& residual, const MaybeTensor& gamma0,
                      const MaybeTensor& beta0, const MaybeTensor& gamma1, const MaybeTensor& beta1,
                      const MaybeTensor& rowscale, const MaybeTensor& colscale,
                      const MaybeTensor& x0_subset, const MaybeTensor& z_subset,
                      const MaybeTensor& seed, double dropout_p, double epsilon,
                      double rowscale_const, bool is_rms_norm) {
  const Argument x0_arg("x0", x0);
  const FusedParams params = checked_params(FusedArgs{Argument("z0", z0),
                                                      Argument("z1", z1),
                                                      Argument("x", x),
                                                      Argument("dmask0", dmask0),
                                                      Argument("dmask1", dmask1),
                                                      Argument("mu", mu),
                                                      Argument("rsigma", rsigma),
                                                      x0_arg,
                                                      Argument("x1", x1),
                                                      Argument("residual", residual),
                                                      Argument("gamma0", gamma0),
                                                      Argument("beta0", beta0),
                                                      Argument("gamma1", gamma1),
                                                      Argument("beta1", beta1),
                                                      Argument("rowscale", rowscale),
                                                      Argument("colscale", colscale),
                                                      Argument("x0_subset", x0_subset),
                                                      Argument("z_subset", z_subset),
                                                      Argument("seed", seed),
                                                      dropout_p,
                                                      epsilon,
                                                      rowscale_const,
                                                      is_rms_norm});
  compute("dropout_add_norm", params, *x0_arg);
}

void dropout_add_norm_backward(
    const MaybeTensor& dx0, const MaybeTensor& dx1, const MaybeTensor& dresidual,
    const MaybeTensor& dgamma0, const MaybeTensor& dbeta0, const MaybeTensor& dgamma1,
    const MaybeTensor& dbeta1, const MaybeTensor& dcolscale, const TensorHandle& dz0,
    const MaybeTensor& dz1, const MaybeTensor& dx, const TensorHandle& x, const MaybeTensor& x0,
    const MaybeTensor& dmask0, const MaybeTensor& dmask1, const MaybeTensor& mu,
    const MaybeTensor& rsigma, const MaybeTensor& gamma0, const MaybeTensor& gamma1,
    const MaybeTensor& rowscale, const MaybeTensor& colscale, const MaybeTensor& x0_subset,
    const MaybeTensor& z_subset, double dropout_p, double epsilon, double rowscale_const,
    bool is_rms_norm) {
  const Argument x_arg("x", x);
  const FusedBackwardParams params =
      checked_params(FusedBackwardArgs{Argument("dx0", dx0),
                                       Argument("dx1", dx1),
                                       Argument("dresidual", dresidual),
                                       Argument("dgamma0", dgamma0),
                                       Argument("dbeta0", dbeta0),
                                       Argument("dgamma1", dgamma1),
                                       Argument("dbeta1", dbeta1),
                                       Argument("dcolscale", dcolscale),
                                       Argument("dz0", dz0),
                                       Argument("dz1", dz1),
                                       Argument("dx", dx),
                                       x_arg,
                                       Argument("x0", x0),
                                       Argument("dmask0", dmask0),
                                       Argument("dmask1", dmask1),
                                       Argument("mu", mu),
                                       Argument("rsigma", rsigma),
                                       Argument("gamma0", gamma0),
                                       Argument("gamma1", gamma1),
                                       Argument("rowscale", rowscale),
                                       Argument("colscale", colscale),
                                       Argument("x0_subset", x0_subset),
                                       Argument("z_subset", z_subset),
                                       dropout_p,
                                       epsilon,
                                       rowscale_const,
                                       is_rms_norm});
  compute("dropout_add_norm_backward", params, *x_arg);
}

}  // namespace
}  // namespace kernelhub::layer_norm

STABLE_TORCH_LIBRARY_EXPAND(TORCH_EXTENSION_NAME, m) {
  using namespace kernelhub::layer_norm;  // NOLINT: schemas only
  m.def(kLayerNorm);
  m.def(kRmsNorm);
  m.def(kLayerNormBackward);
  m.def(kRmsNormBackward);
  m.def(kLayerNormFwdNograd);
  m.def(kRmsNormFwdNograd);
  m.def(kLayerNormBwdNograd);
  m.def(kRmsNormBwdNograd);
  m.def(kDropoutAddNorm);
  m.def(kDropoutAddNormBackward);
}

#if defined(CPU_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CPU, m) {
#elif defined(CUDA_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CUDA, m) {
#endif
  m.impl("layer_norm", TORCH_BOX(&kernelhub::layer_norm::layer_norm));
  m.impl("rms_norm", TORCH_BOX(&kernelhub::layer_norm::rms_norm));
  m.impl("layer_norm_backward", TORCH_BOX(&kernelhub::layer_norm::layer_norm_backward));
  m.impl("rms_norm_backward", TORCH_BOX(&kernelhub::layer_norm::rms_norm_backward));
  m.impl("layer_norm_fwd_nograd", TORCH_BOX(&kernelhub::layer_norm::layer_norm_fwd_nograd));
  m.impl("rms_norm_fwd_nograd", TORCH_BOX(&kernelhub::layer_norm::rms_norm_fwd_nograd));
  m.impl("layer_norm_bwd_nograd", TORCH_BOX(&kernelhub::layer_norm::layer_norm_bwd_nograd));
  m.impl("rms_norm_bwd_nograd", TORCH_BOX(&kernelhub::layer_norm::rms_norm_bwd_nograd));
  m.impl("dropout_add_norm", TORCH_BOX(&kernelhub::layer_norm::dropout_add_norm));
  m.impl("dropout_add_norm_backward", TORCH_BOX(&kernelhub::layer_norm::dropout_add_norm_backward));
}

REGISTER_EXTENSION(TORCH_EXTENSION_NAME)
