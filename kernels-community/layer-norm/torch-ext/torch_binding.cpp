// SPDX-License-Identifier: Apache-2.0
#include "registration.h"

#include <torch/csrc/stable/library.h>

#include <optional>

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

using primitives::as_contiguous;
using primitives::new_tensor;
using primitives::sizes_of;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;

/// A tensor argument described for the checks; converts to null where the caller gave none.
class Argument {
 public:
  Argument(const char* name, const Tensor& tensor) : arg_(primitives::tensor_arg(name, tensor)) {}
  Argument(const char* name, const MaybeTensor& tensor) {
    if (tensor.has_value()) arg_ = primitives::tensor_arg(name, *tensor);
  }
  operator OptionalArg() const { return arg_.has_value() ? &*arg_ : nullptr; }
  const primitives::TensorArg& operator*() const { return *arg_; }

 private:
  std::optional<primitives::TensorArg> arg_;
};

template <class Call>
void compute(const char* op, const Call& params, [[maybe_unused]] const Tensor& x) {
  if (is_empty(params)) return;
#if defined(CPU_KERNEL)
  static_cast<void>(op);
  cpu::run(params, primitives::torch_parallel_for());
#elif defined(CUDA_KERNEL)
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  primitives::check_launch("layer_norm", op, params.rows, params.cols,
                           cuda::launch(params, primitives::current_stream(x)));
#endif
}

#if defined(CUDA_KERNEL)
void compute(const char* op, const FusedBackwardParams& params, const Tensor& x) {
  if (is_empty(params)) return;
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  cuda::BackwardPlan plan{};
  cudaError_t status = cuda::plan_backward(params, &plan);
  // torch's allocator keeps the memory for this stream until the kernels are done with it.
  std::optional<Tensor> workspace;
  if (status == cudaSuccess && plan.workspace_bytes > 0) {
    workspace = new_tensor(x, {plan.workspace_bytes}, ScalarType::Byte);
  }
  if (status == cudaSuccess) {
    void* memory = workspace.has_value() ? workspace->data_ptr() : nullptr;
    status = cuda::launch_backward(params, plan, memory, primitives::current_stream(x));
  }
  primitives::check_launch("layer_norm", op, params.rows, params.cols, status);
}
#endif

void layer_norm(const Tensor& out, const Tensor& x, const MaybeTensor& weight,
                const MaybeTensor& bias, double eps) {
  compute("layer_norm",
          checked_params(Norm::kLayer, *Argument("out", out), *Argument("x", x),
                         Argument("weight", weight), Argument("bias", bias), eps),
          x);
}

void rms_norm(const Tensor& out, const Tensor& x, const MaybeTensor& weight, double eps) {
  compute("rms_norm",
          checked_params(Norm::kRms, *Argument("out", out), *Argument("x", x),
                         Argument("weight", weight), nullptr, eps),
          x);
}

void layer_norm_backward(const MaybeTensor& grad_x, const MaybeTensor& grad_weight,
                         const MaybeTensor& grad_bias, const Tensor& grad_out, const Tensor& x,
                         const MaybeTensor& weight, double eps) {
  compute("layer_norm_backward",
          checked_backward_params(Norm::kLayer, Argument("grad_x", grad_x),
                                  Argument("grad_weight", grad_weight),
                                  Argument("grad_bias", grad_bias), *Argument("grad_out", grad_out),
                                  *Argument("x", x), Argument("weight", weight), eps),
          x);
}

void rms_norm_backward(const MaybeTensor& grad_x, const MaybeTensor& grad_weight,
                       const Tensor& grad_out, const Tensor& x, const MaybeTensor& weight,
                       double eps) {
  compute("rms_norm_backward",
          checked_backward_params(
              Norm::kRms, Argument("grad_x", grad_x), Argument("grad_weight", grad_weight), nullptr,
              *Argument("grad_out", grad_out), *Argument("x", x), Argument("weight", weight), eps),
          x);
}

Tensor layer_norm_fwd_nograd(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias,
                             double eps) {
  Tensor out = new_tensor(x, sizes_of(x), x.scalar_type());
  layer_norm(out, as_contiguous(x), as_contiguous(weight), as_contiguous(bias), eps);
  return out;
}

Tensor rms_norm_fwd_nograd(const Tensor& x, const MaybeTensor& weight, double eps) {
  Tensor out = new_tensor(x, sizes_of(x), x.scalar_type());
  rms_norm(out, as_contiguous(x), as_contiguous(weight), eps);
  return out;
}

/// New gradients of a plain norm, without elements where nobody asks for them.
struct PlainGradients {
  Tensor x, weight, bias;

  /// Parameters have the dtype of the weight; a bias alone has its own, or that of x.
  PlainGradients(const Tensor& input, const MaybeTensor& parameter,
                 std::optional<ScalarType> bias_dtype, const bool (&wanted)[3])
      : x(new_tensor(input, wanted[0] ? sizes_of(input) : kNone, input.scalar_type())),
        weight(new_parameter(input, parameter, bias_dtype, wanted[1])),
        bias(new_parameter(input, parameter, bias_dtype, wanted[2])) {}

  /// `gradient` as an op takes it.
  static MaybeTensor wanted(const Tensor& gradient, bool is_wanted) {
    return is_wanted ? MaybeTensor(gradient) : std::nullopt;
  }

 private:
  static constexpr std::int64_t kZero = 0;
  static constexpr primitives::Extents kNone{&kZero, 1};

  static Tensor new_parameter(const Tensor& input, const MaybeTensor& parameter,
                              std::optional<ScalarType> dtype, bool is_wanted) {
    const ScalarType type =
        parameter.has_value() ? parameter->scalar_type() : dtype.value_or(input.scalar_type());
    if (!is_wanted) return new_tensor(input, kNone, type);
    if (parameter.has_value()) return new_tensor(input, sizes_of(*parameter), type);
    const primitives::Extents sizes = sizes_of(input);
    return new_tensor(input, {sizes.empty() ? 1 : sizes.back()}, type);
  }
};

std::tuple<Tensor, Tensor, Tensor> layer_norm_bwd_nograd(const Tensor& grad_out, const Tensor& x,
                                                         const MaybeTensor& weight, double eps,
                                                         bool needs_x, bool needs_weight,
                                                         bool needs_bias,
                                                         std::optional<ScalarType> bias_dtype) {
  const PlainGradients grads(x, weight, bias_dtype, {needs_x, needs_weight, needs_bias});
  layer_norm_backward(grads.wanted(grads.x, needs_x), grads.wanted(grads.weight, needs_weight),
                      grads.wanted(grads.bias, needs_bias), as_contiguous(grad_out),
                      as_contiguous(x), as_contiguous(weight), eps);
  return {grads.x, grads.weight, grads.bias};
}

std::tuple<Tensor, Tensor> rms_norm_bwd_nograd(const Tensor& grad_out, const Tensor& x,
                                               const MaybeTensor& weight, double eps, bool needs_x,
                                               bool needs_weight) {
  const PlainGradients grads(x, weight, std::nullopt, {needs_x, needs_weight, false});
  rms_norm_backward(grads.wanted(grads.x, needs_x), grads.wanted(grads.weight, needs_weight),
                    as_contiguous(grad_out), as_contiguous(x), as_contiguous(weight), eps);
  return {grads.x, grads.weight};
}

void dropout_add_norm(Tensor z0, MaybeTensor z1, MaybeTensor x, MaybeTensor dmask0,
                      MaybeTensor dmask1, MaybeTensor mu, MaybeTensor rsigma, Tensor x0,
                      MaybeTensor x1, MaybeTensor residual, MaybeTensor gamma0, MaybeTensor beta0,
                      MaybeTensor gamma1, MaybeTensor beta1, MaybeTensor rowscale,
                      MaybeTensor colscale, MaybeTensor x0_subset, MaybeTensor z_subset,
                      MaybeTensor seed, double dropout_p, double epsilon, double rowscale_const,
                      bool is_rms_norm) {
  const FusedParams params = checked_params(FusedArgs{Argument("z0", z0),
                                                      Argument("z1", z1),
                                                      Argument("x", x),
                                                      Argument("dmask0", dmask0),
                                                      Argument("dmask1", dmask1),
                                                      Argument("mu", mu),
                                                      Argument("rsigma", rsigma),
                                                      Argument("x0", x0),
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
  compute("dropout_add_norm", params, x0);
}

void dropout_add_norm_backward(MaybeTensor dx0, MaybeTensor dx1, MaybeTensor dresidual,
                               MaybeTensor dgamma0, MaybeTensor dbeta0, MaybeTensor dgamma1,
                               MaybeTensor dbeta1, MaybeTensor dcolscale, Tensor dz0,
                               MaybeTensor dz1, MaybeTensor dx, Tensor x, MaybeTensor x0,
                               MaybeTensor dmask0, MaybeTensor dmask1, MaybeTensor mu,
                               MaybeTensor rsigma, MaybeTensor gamma0, MaybeTensor gamma1,
                               MaybeTensor rowscale, MaybeTensor colscale, MaybeTensor x0_subset,
                               MaybeTensor z_subset, double dropout_p, double epsilon,
                               double rowscale_const, bool is_rms_norm) {
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
                                       Argument("x", x),
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
  compute("dropout_add_norm_backward", params, x);
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
