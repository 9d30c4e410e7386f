// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels of layer-norm on a CPU (cuda_on_host), as functions that take CPU tensors.
#include <kernelhub/abi/kernel.hpp>
#include <optional>
#include <string>

#include "layer_norm/checks.h"
#include "layer_norm_cuda/layer_norm_cuda.h"
#include "primitives/abi_args.h"

namespace kernelhub::layer_norm {
namespace {

using MaybeIn = std::optional<const DLTensor*>;
using MaybeOut = std::optional<DLTensor*>;

class Argument {
 public:
  Argument(const char* name, const DLTensor* tensor)
      : arg_(primitives::tensor_arg(name, *tensor)) {}
  template <class T>
  Argument(const char* name, const std::optional<T*>& tensor) {
    if (tensor.has_value()) arg_ = primitives::tensor_arg(name, **tensor);
  }
  operator OptionalArg() const { return arg_.has_value() ? &*arg_ : nullptr; }
  const primitives::TensorArg& operator*() const { return *arg_; }

 private:
  std::optional<primitives::TensorArg> arg_;
};

void check(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error("launch failed");
}

template <class Call>
void compute(const Call& params) {
  if (!is_empty(params)) check(cuda::launch(params, nullptr));
}

void compute(const FusedBackwardParams& params) {
  if (is_empty(params)) return;
  cuda::BackwardPlan plan{};
  check(cuda::plan_backward(params, &plan));
  // Guard bytes of NaN: a workspace that is too small shows.
  const auto words = static_cast<std::size_t>(plan.workspace_bytes / 4);
  std::vector<float> workspace(words + 16, NAN);
  check(cuda::launch_backward(params, plan, workspace.data(), nullptr));
  for (std::size_t i = 0; i < 16; ++i) {
    if (workspace[words + i] == workspace[words + i]) throw std::runtime_error("workspace overrun");
  }
}

void set_device(std::int64_t capability_major) {
  cuda_on_host::device.capability_major = static_cast<int>(capability_major);
}

void layer_norm(DLTensor* out, const DLTensor* x, MaybeIn weight, MaybeIn bias, double eps,
                bool is_rms_norm) {
  compute(checked_params(is_rms_norm ? Norm::kRms : Norm::kLayer, *Argument("out", out),
                         *Argument("x", x), Argument("weight", weight), Argument("bias", bias),
                         eps));
}

void layer_norm_backward(MaybeOut grad_x, MaybeOut grad_weight, MaybeOut grad_bias,
                         const DLTensor* grad_out, const DLTensor* x, MaybeIn weight, double eps,
                         bool is_rms_norm) {
  compute(checked_backward_params(is_rms_norm ? Norm::kRms : Norm::kLayer,
                                  Argument("grad_x", grad_x), Argument("grad_weight", grad_weight),
                                  Argument("grad_bias", grad_bias), *Argument("grad_out", grad_out),
                                  *Argument("x", x), Argument("weight", weight), eps));
}

void dropout_add_norm(DLTensor* z0, MaybeOut z1, MaybeOut x, MaybeOut dmask0, MaybeOut dmask1,
                      MaybeOut mu, MaybeOut rsigma, const DLTensor* x0, MaybeIn x1,
                      MaybeIn residual, MaybeIn gamma0, MaybeIn beta0, MaybeIn gamma1,
                      MaybeIn beta1, MaybeIn rowscale, MaybeIn colscale, MaybeIn x0_subset,
                      MaybeIn z_subset, MaybeIn seed, double dropout_p, double epsilon,
                      double rowscale_const, bool is_rms_norm) {
  compute(checked_params(FusedArgs{Argument("z0", z0),
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
                                   is_rms_norm}));
}

void dropout_add_norm_backward(MaybeOut dx0, MaybeOut dx1, MaybeOut dresidual, MaybeOut dgamma0,
                               MaybeOut dbeta0, MaybeOut dgamma1, MaybeOut dbeta1,
                               MaybeOut dcolscale, const DLTensor* dz0, MaybeIn dz1, MaybeIn dx,
                               const DLTensor* x, MaybeIn x0, MaybeIn dmask0, MaybeIn dmask1,
                               MaybeIn mu, MaybeIn rsigma, MaybeIn gamma0, MaybeIn gamma1,
                               MaybeIn rowscale, MaybeIn colscale, MaybeIn x0_subset,
                               MaybeIn z_subset, double dropout_p, double epsilon,
                               double rowscale_const, bool is_rms_norm) {
  compute(checked_params(FusedBackwardArgs{Argument("dx0", dx0),
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
                                           is_rms_norm}));
}

}  // namespace
}  // namespace kernelhub::layer_norm

KERNELHUB_FUNCTION(set_device, &kernelhub::layer_norm::set_device, "set_device(int major) -> ()")
KERNELHUB_FUNCTION(layer_norm, &kernelhub::layer_norm::layer_norm, "layer_norm(...) -> ()")
KERNELHUB_FUNCTION(layer_norm_backward, &kernelhub::layer_norm::layer_norm_backward,
                   "layer_norm_backward(...) -> ()")
KERNELHUB_FUNCTION(dropout_add_norm, &kernelhub::layer_norm::dropout_add_norm,
                   "dropout_add_norm(...) -> ()")
KERNELHUB_FUNCTION(dropout_add_norm_backward, &kernelhub::layer_norm::dropout_add_norm_backward,
                   "dropout_add_norm_backward(...) -> ()")
KERNELHUB_PACKAGE("layer_norm_on_host", "layer-norm", 1, "cpu", 0, KERNELHUB_ROW(set_device),
                  KERNELHUB_ROW(layer_norm), KERNELHUB_ROW(layer_norm_backward),
                  KERNELHUB_ROW(dropout_add_norm), KERNELHUB_ROW(dropout_add_norm_backward))
