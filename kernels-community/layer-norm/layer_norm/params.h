// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "primitives/dtype.h"

namespace kernelhub::layer_norm {

enum class Norm { kLayer, kRms };  // kRms: no mean is taken off

/// One call of layer_norm or rms_norm, already checked. Strides count elements; rows are
/// unit-stride inside.
struct Params {
  Norm norm;
  primitives::DType dtype;         // of out and x
  primitives::DType weight_dtype;  // of weight and bias: dtype, or fp32
  void* out;                       // [rows, cols], may equal x
  const void* x;                   // [rows, cols]
  const void* weight;              // [cols] or null (ones)
  const void* bias;                // [cols] or null (zeros)
  std::int64_t rows;               // >= 1
  std::int64_t cols;               // >= 1
  std::int64_t out_stride;         // elements from one row of out to the next
  std::int64_t x_stride;
  double eps;  // added to the variance or to the mean square
};

/// Rows of one matrix; null data: the call has no such tensor.
template <class Pointer>
struct Matrix {
  Pointer data = nullptr;
  std::int64_t stride = 0;  // elements from one row to the next
};
using In = Matrix<const void*>;
using Out = Matrix<void*>;
using MaskIn = Matrix<const std::uint8_t*>;
using MaskOut = Matrix<std::uint8_t*>;

/// What forward and backward of the fused op share. Of `rows` rows, row r takes row x0_subset[r] -
/// 1 of x0 and writes row z_subset[r] - 1 of z; 0 means none. Without subsets both are r.
struct FusedShape {
  Norm norm;
  primitives::DType dtype;           // of x0, x1, rowscale, z and their gradients
  primitives::DType residual_dtype;  // of residual, x and their gradients
  primitives::DType weight_dtype;    // of gammas, betas, colscale and their gradients
  std::int64_t rows;                 // of x
  std::int64_t cols;
  std::int64_t x0_rows;
  std::int64_t z_rows;
  const void* rowscale;           // [rows] or null
  const void* colscale;           // [cols] or null
  const std::int32_t* x0_subset;  // [rows] or null, as z_subset
  const std::int32_t* z_subset;
  double rowscale_const;
  double dropout_p;  // in [0, 1)
  double eps;
};

/// x = dropout(x0 * rowscale * rowscale_const * colscale) + dropout(x1) + residual
/// z_i = norm(x) * gamma_i + beta_i, from the unrounded x
struct FusedParams : FusedShape {
  In x0, x1, residual;
  const void *gamma0, *beta0, *gamma1, *beta1;  // [cols] or null
  const std::int64_t* seed;                     // one number in the tensors' memory; null: p is 0
  Out z0, z1, x;
  MaskOut dmask0, dmask1;  // 1: kept; shaped as x0 and x1
  void *mu, *rsigma;       // [rows] or null; fp32, for fp64 tensors fp64
};

/// Gradients of FusedParams' call with respect to x0, x1, residual, gammas, betas and colscale.
struct FusedBackwardParams : FusedShape {
  In dz0, dz1, dx;  // dx: gradient that reached x itself
  In x, x0;         // x0 is read for dcolscale only
  MaskIn dmask0, dmask1;
  const void *mu, *rsigma;  // [rows]; null: computed again from x and eps
  const void *gamma0, *gamma1;
  Out dx0, dx1, dresidual;
  void *dgamma0, *dbeta0, *dgamma1, *dbeta1, *dcolscale;  // [cols] or null
};

/// Whether a call has neither dropout, scales, subsets nor a second norm, over some rows.
inline bool is_plain(const FusedParams& params) {
  const bool has_more = params.z1.data != nullptr || params.dmask0.data != nullptr ||
                        params.dmask1.data != nullptr || params.rowscale != nullptr ||
                        params.colscale != nullptr || params.x0_subset != nullptr ||
                        params.z_subset != nullptr || params.rowscale_const != 1.0;
  return !has_more && params.rows > 0;
}

/// Whether a call is that of a norm alone, in one dtype, over some rows.
inline bool is_plain(const FusedBackwardParams& params) {
  const bool has_more = params.mu != nullptr || params.dz1.data != nullptr ||
                        params.dx.data != nullptr || params.dmask0.data != nullptr ||
                        params.dx1.data != nullptr || params.dresidual.data != nullptr ||
                        params.rowscale != nullptr || params.colscale != nullptr ||
                        params.x0_subset != nullptr || params.z_subset != nullptr ||
                        params.rowscale_const != 1.0;
  return !has_more && params.rows > 0 && params.residual_dtype == params.dtype &&
         params.weight_dtype == params.dtype;
}

/// A plain norm as a call of the fused op, which takes weights of a dtype of their own.
inline FusedParams fused(const Params& params) {
  FusedParams call{};
  call.norm = params.norm;
  call.dtype = call.residual_dtype = params.dtype;
  call.weight_dtype = params.weight_dtype;
  call.rows = call.x0_rows = call.z_rows = params.rows;
  call.cols = params.cols;
  call.rowscale_const = 1.0;
  call.eps = params.eps;
  call.x0 = {params.x, params.x_stride};
  call.gamma0 = params.weight;
  call.beta0 = params.bias;
  call.z0 = {params.out, params.out_stride};
  return call;
}

/// Nothing to compute: no element is read or written.
inline bool is_empty(const Params& params) { return params.rows == 0 || params.cols == 0; }
/// With columns and no rows, sums over rows and rows outside subsets are zeros.
inline bool is_empty(const FusedBackwardParams& params) { return params.cols == 0; }
/// Rows without columns have statistics: NaNs, those of nothing.
inline bool is_empty(const FusedParams& params) {
  return params.cols == 0 && params.mu == nullptr && params.rsigma == nullptr;
}

/// Sums over all rows that a backward call makes, in this order where they are asked for.
constexpr int kMaxColumnSums = 5;

}  // namespace kernelhub::layer_norm
