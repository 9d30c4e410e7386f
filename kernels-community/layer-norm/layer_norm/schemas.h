// SPDX-License-Identifier: Apache-2.0
// Schemas of the ops, for the torch and the C binding.
#pragma once

namespace kernelhub::layer_norm {

constexpr char kLayerNorm[] =
    "layer_norm(Tensor! out, Tensor x, Tensor? weight, Tensor? bias, float eps) -> ()";
constexpr char kRmsNorm[] = "rms_norm(Tensor! out, Tensor x, Tensor? weight, float eps) -> ()";
constexpr char kLayerNormBackward[] =
    "layer_norm_backward(Tensor(a!)? grad_x, Tensor(b!)? grad_weight, Tensor(c!)? grad_bias, "
    "Tensor grad_out, Tensor x, Tensor? weight, float eps) -> ()";
constexpr char kRmsNormBackward[] =
    "rms_norm_backward(Tensor(a!)? grad_x, Tensor(b!)? grad_weight, Tensor grad_out, Tensor x, "
    "Tensor? weight, float eps) -> ()";
// The forms of eager mode, without autograd, which is Python's there: tensors of any layout,
// results in new ones; one without elements stands for a gradient that nobody asks for.
constexpr char kLayerNormFwdNograd[] =
    "layer_norm_fwd_nograd(Tensor x, Tensor? weight, Tensor? bias, float eps) -> Tensor";
constexpr char kRmsNormFwdNograd[] =
    "rms_norm_fwd_nograd(Tensor x, Tensor? weight, float eps) -> Tensor";
constexpr char kLayerNormBwdNograd[] =
    "layer_norm_bwd_nograd(Tensor grad_out, Tensor x, Tensor? weight, float eps, bool needs_x, "
    "bool needs_weight, bool needs_bias, ScalarType? bias_dtype=None) -> (Tensor, Tensor, Tensor)";
constexpr char kRmsNormBwdNograd[] =
    "rms_norm_bwd_nograd(Tensor grad_out, Tensor x, Tensor? weight, float eps, bool needs_x, bool "
    "needs_weight) -> (Tensor, Tensor)";
constexpr char kDropoutAddNorm[] =
    "dropout_add_norm(Tensor(a!) z0, Tensor(b!)? z1, Tensor(c!)? x, Tensor(d!)? dmask0, "
    "Tensor(e!)? dmask1, Tensor(f!)? mu, Tensor(g!)? rsigma, Tensor x0, Tensor? x1, "
    "Tensor? residual, Tensor? gamma0, Tensor? beta0, Tensor? gamma1, Tensor? beta1, "
    "Tensor? rowscale, Tensor? colscale, Tensor? x0_subset, Tensor? z_subset, Tensor? seed, "
    "float dropout_p, float epsilon, float rowscale_const, bool is_rms_norm) -> ()";
constexpr char kDropoutAddNormBackward[] =
    "dropout_add_norm_backward(Tensor(a!)? dx0, Tensor(b!)? dx1, Tensor(c!)? dresidual, "
    "Tensor(d!)? dgamma0, Tensor(e!)? dbeta0, Tensor(f!)? dgamma1, Tensor(g!)? dbeta1, "
    "Tensor(h!)? dcolscale, Tensor dz0, Tensor? dz1, Tensor? dx, Tensor x, Tensor? x0, "
    "Tensor? dmask0, Tensor? dmask1, Tensor? mu, Tensor? rsigma, Tensor? gamma0, Tensor? gamma1, "
    "Tensor? rowscale, Tensor? colscale, Tensor? x0_subset, Tensor? z_subset, float dropout_p, "
    "float epsilon, float rowscale_const, bool is_rms_norm) -> ()";

}  // namespace kernelhub::layer_norm
