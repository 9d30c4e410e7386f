// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "layer_norm/params.h"
#include "primitives/tensor_check.h"

namespace kernelhub::layer_norm {

using OptionalArg = const primitives::TensorArg*;  // null: not given

/// Checks what a plain norm reads (device, dtype, shape, strides, eps) and describes it to compute
/// code; `weight` and `bias` may be null. The result lacks nothing but `out`, with its stride.
/// Throws std::runtime_error "layer_norm.layer_norm: ..." or "layer_norm.rms_norm: ..." on bad
/// arguments. It has zero rows or columns when there is nothing to compute.
Params checked_inputs(Norm norm, const primitives::TensorArg& x, OptionalArg weight,
                      OptionalArg bias, double eps);

/// As above for a call that brings `out`, which shares no element with anything but may be x.
Params checked_params(Norm norm, const primitives::TensorArg& out, const primitives::TensorArg& x,
                      OptionalArg weight, OptionalArg bias, double eps);

/// As checked_inputs for layer_norm_backward and rms_norm_backward: the result lacks dx0, dgamma0
/// and dbeta0. A bias has the dtype of the weight beside it, which `bias_dtype` may repeat; alone
/// it has `bias_dtype`, unset that of x. The result has zero columns when there is nothing to
/// compute; with zero rows the gradients of weight and bias are zeros.
FusedBackwardParams checked_backward_inputs(Norm norm, const primitives::TensorArg& grad_out,
                                            const primitives::TensorArg& x, OptionalArg weight,
                                            std::optional<primitives::DTypeCode> bias_dtype,
                                            double eps);

/// As above for a call that brings the gradients, which share no element with anything.
FusedBackwardParams checked_backward_params(Norm norm, OptionalArg grad_x, OptionalArg grad_weight,
                                            OptionalArg grad_bias,
                                            const primitives::TensorArg& grad_out,
                                            const primitives::TensorArg& x, OptionalArg weight,
                                            double eps);

/// Arguments of dropout_add_norm, named as in its schema.
struct FusedArgs {
  OptionalArg z0, z1, x, dmask0, dmask1, mu, rsigma;  // written; z0 is always there
  OptionalArg x0, x1, residual;                       // x0 is always there
  OptionalArg gamma0, beta0, gamma1, beta1, rowscale, colscale, x0_subset, z_subset, seed;
  double dropout_p, epsilon, rowscale_const;
  bool is_rms_norm;
};

/// Arguments of dropout_add_norm_backward, named as in its schema.
struct FusedBackwardArgs {
  OptionalArg dx0, dx1, dresidual, dgamma0, dbeta0, dgamma1, dbeta1, dcolscale;  // written
  OptionalArg dz0, dz1, dx, x, x0, dmask0, dmask1, mu, rsigma;  // dz0 and x are always there
  OptionalArg gamma0, gamma1, rowscale, colscale, x0_subset, z_subset;
  double dropout_p, epsilon, rowscale_const;
  bool is_rms_norm;
};

/// Checks as above. x0, x1 and z have one dtype; residual, x and their gradients, and likewise
/// gammas, betas and colscale, have that one or float32. Values of subsets are not looked at.
FusedParams checked_params(const FusedArgs& args);
FusedBackwardParams checked_params(const FusedBackwardArgs& args);

}  // namespace kernelhub::layer_norm
