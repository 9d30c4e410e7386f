// SPDX-License-Identifier: Apache-2.0
// The fused op and its gradient, row by row; the includer's flags choose the instruction set.
//   x = dropout(x0 * rowscale * rowscale_const * colscale) + dropout(x1) + residual
//   z_i = (x - mean) * rstd * gamma_i + beta_i, rstd = 1 / sqrt(variance + eps)
//   rms_norm: mean = 0, and the mean square in place of the variance
//   g = sum_i dz_i * gamma_i, h = (x - mean) * rstd
//   dx = (g - mean(g) - h * mean(g * h)) * rstd + the gradient that reached x itself
// A row is widened to Real (fp32, for fp64 tensors fp64) once and stays in L1 or L2: memory is read
// and written once an element. Sums over a row run in 16 lanes of Real and are folded into fp64
// every 32 additions; sums over rows are folded every 64. Means are sums of x / cols, so that
// finite rows never overflow; the mean of h, which is what a rounded mean lacks, is taken off
// again.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "layer_norm/dropout.h"
#include "layer_norm/params.h"
#include "layer_norm_cpu/layer_norm_cpu.h"
#include "primitives/simd_rows.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::layer_norm::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace simd = primitives::HWY_NAMESPACE;
using primitives::DType;
using primitives::Streaming;

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

// Rows in scratch memory end in zeros up to a multiple of this.
constexpr std::int64_t kRowLanes = cpu::kScratchLanes;
constexpr std::int64_t kRowFold = 32 * kRowLanes;

constexpr std::int64_t padded(std::int64_t cols) {
  return (cols + kRowLanes - 1) / kRowLanes * kRowLanes;
}

/// Address of an element of a row in memory.
inline const void* at(DType dtype, const void* base, std::int64_t index) {
  return static_cast<const char*>(base) + index * primitives::size_of(dtype);
}
inline void* at(DType dtype, void* base, std::int64_t index) {
  return static_cast<char*>(base) + index * primitives::size_of(dtype);
}

template <class Format>
inline void widen_format(const void* from, std::int64_t cols, float* HWY_RESTRICT to) {
  const auto* source = static_cast<const typename Format::Storage*>(from);
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(simd::F32()));
  std::int64_t i = 0;
  for (; i + lanes <= cols; i += lanes) hn::StoreU(Format::load(source + i), simd::F32(), to + i);
  for (; i < cols; ++i) {
    to[i] = hn::GetLane(simd::load_first<Format>(source + i, 1));
  }
}

// A NaN may come from fp32 memory beside bf16: the default one is what BFloat16::store wants.
HWY_INLINE simd::V default_nan(simd::V value) {
  const auto nan = hn::Set(simd::F32(), std::numeric_limits<float>::quiet_NaN());
  return hn::IfThenElse(hn::IsNaN(value), nan, value);
}

/// `streams`: whole lines from `to` on past the caches.
template <class Format>
inline void narrow_format(const float* HWY_RESTRICT from, std::int64_t cols, void* to,
                          bool streams) {
  auto* target = static_cast<typename Format::Storage*>(to);
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(simd::F32()));
  std::int64_t i = 0;
  if (streams) {
    constexpr auto kLine = primitives::kLineBytes / std::int64_t{sizeof(*target)};
    for (; i + kLine <= cols; i += kLine) {
      for (std::int64_t j = i; j < i + kLine; j += simd::kBatch<Format>) {
        simd::Batch<Format> batch = Format::load_fp32(from + j);
        for (simd::V& value : batch.of) value = default_nan(value);
        Format::stream_batch(batch, target + j);
      }
    }
  }
  for (; i + lanes <= cols; i += lanes) {
    Format::store(default_nan(hn::LoadU(simd::F32(), from + i)), target + i);
  }
  for (; i < cols; ++i) {
    simd::store_first<Format>(default_nan(hn::Set(simd::F32(), from[i])), target + i, 1);
  }
}

/// Memory -> scratch row, zeros behind it.
inline void widen(DType dtype, const void* from, std::int64_t cols, float* to) {
  for (std::int64_t i = cols; i < padded(cols); ++i) to[i] = 0.0f;
  if (dtype == DType::kFloat16) return widen_format<simd::Float16>(from, cols, to);
  if (dtype == DType::kBFloat16) return widen_format<simd::BFloat16>(from, cols, to);
  widen_format<simd::Float32>(from, cols, to);
}
inline void widen(DType, const void* from, std::int64_t cols, double* to) {
  for (std::int64_t i = cols; i < padded(cols); ++i) to[i] = 0.0;
  std::memcpy(to, from, static_cast<std::size_t>(cols) * sizeof(double));
}

/// Scratch row -> memory; past the caches where `streaming` is on.
inline void narrow(DType dtype, const float* from, std::int64_t cols, void* to,
                   const Streaming& streaming) {
  const bool streams = HWY_TARGET != HWY_SCALAR && streaming.is_on(to);
  if (dtype == DType::kFloat16) return narrow_format<simd::Float16>(from, cols, to, streams);
  if (dtype == DType::kBFloat16) return narrow_format<simd::BFloat16>(from, cols, to, streams);
  narrow_format<simd::Float32>(from, cols, to, streams);
}
inline void narrow(DType, const double* from, std::int64_t cols, void* to, const Streaming&) {
  std::memcpy(to, from, static_cast<std::size_t>(cols) * sizeof(double));
}

/// Of rows of a matrix of the call; fp64 is for gradient checks and has none.
inline Streaming streaming_of(DType dtype, std::int64_t rows, std::int64_t cols) {
  switch (dtype) {
    case DType::kFloat64:
      return Streaming::off();
    case DType::kFloat32:
      return Streaming::of<float>(rows, cols);
    default:
      return Streaming::of<std::uint16_t>(rows, cols);
  }
}

template <class Real>
inline void fill(Real value, std::int64_t cols, Real* to) {
  for (std::int64_t i = 0; i < padded(cols); ++i) to[i] = i < cols ? value : Real{0};
}

/// Sum of `term(i)` over a scratch row; terms behind the row must be zero.
template <class Real, class Term>
HWY_INLINE double row_sum(std::int64_t cols, const Term& term) {
  double total = 0.0;
  for (std::int64_t begin = 0; begin < padded(cols); begin += kRowFold) {
    const std::int64_t end = begin + kRowFold < padded(cols) ? begin + kRowFold : padded(cols);
    Real lanes[kRowLanes] = {};
    for (std::int64_t i = begin; i < end; i += kRowLanes) {
      for (std::int64_t k = 0; k < kRowLanes; ++k) lanes[k] += term(i + k);
    }
    for (const Real lane : lanes) total += static_cast<double>(lane);
  }
  return total;
}

/// Calls `body(i)` for all elements of a scratch row, the zeros behind it included.
template <class Body>
HWY_INLINE void each(std::int64_t cols, const Body& body) {
  const std::int64_t end = padded(cols);
#pragma GCC ivdep
  for (std::int64_t i = 0; i < end; ++i) body(i);
}

struct Moments {
  double center;    // rounded to Real
  double lack;      // what it lacks to the mean
  double variance;  // or the mean square
};

/// `x` is left with x - center, zeros behind it.
template <class Real>
inline Moments center_row(Norm norm, std::int64_t cols, Real* x) {
  const double share = 1.0 / static_cast<double>(cols);
  const Real lane_share = static_cast<Real>(share);
  if (norm == Norm::kRms) {
    return {0.0, 0.0, row_sum<Real>(cols, [=](std::int64_t i) { return x[i] * x[i]; }) * share};
  }
  const Real center =
      static_cast<Real>(row_sum<Real>(cols, [=](std::int64_t i) { return x[i] * lane_share; }));
  for (std::int64_t i = 0; i < cols; ++i) x[i] -= center;
  const double lack = row_sum<Real>(cols, [=](std::int64_t i) { return x[i] * lane_share; });
  const double squares = row_sum<Real>(cols, [=](std::int64_t i) { return x[i] * x[i]; });
  const double variance = squares * share - lack * lack;
  return {static_cast<double>(center), lack, variance < 0.0 ? 0.0 : variance};
}

/// Scratch rows of one task, cut off a block of memory one after the other.
template <class Real>
class Scratch {
 public:
  Scratch(void* memory, std::int64_t cols) : next_(static_cast<char*>(memory)), cols_(cols) {}

  template <class T = Real>
  T* row() {
    T* taken = reinterpret_cast<T*>(next_);
    next_ += padded(cols_) * static_cast<std::int64_t>(sizeof(T));
    return taken;
  }

  /// A parameter, or null where the call has none.
  const Real* parameter(DType dtype, const void* data) {
    if (data == nullptr) return nullptr;
    Real* taken = row();
    widen(dtype, data, cols_, taken);
    return taken;
  }

 private:
  char* next_;
  std::int64_t cols_;
};

template <class Real>
inline Real row_scale(const FusedShape& shape, std::int64_t row) {
  Real scale[kRowLanes] = {Real{1}};
  if (shape.rowscale != nullptr) widen(shape.dtype, at(shape.dtype, shape.rowscale, row), 1, scale);
  return scale[0] * static_cast<Real>(shape.rowscale_const);
}

template <class Real>
inline Real dropout_scale(const FusedShape& shape) {
  return static_cast<Real>(1.0 / (1.0 - shape.dropout_p));
}

inline void make_mask(const FusedParams& params, std::uint32_t stream, std::int64_t row,
                      std::uint8_t* mask) {
  const std::uint64_t limit = keep_below(params.dropout_p);
  const auto seed = static_cast<std::uint64_t>(*params.seed);
  constexpr std::int64_t kGroups = 16;
  for (std::int64_t first = 0; first < params.cols; first += 4 * kGroups) {
    std::uint8_t kept[kGroups][4];
    for (std::int64_t k = 0; k < kGroups; ++k) {
      const Random4 random = random_words(seed, stream, static_cast<std::uint64_t>(row),
                                          static_cast<std::uint32_t>(first / 4 + k));
      for (int i = 0; i < 4; ++i) kept[k][i] = random.word[i] < limit ? 1 : 0;
    }
    const std::int64_t count =
        params.cols - first < 4 * kGroups ? params.cols - first : 4 * kGroups;
    std::memcpy(mask + first, kept, static_cast<std::size_t>(count));
  }
}

template <class Real>
inline void apply_mask(const std::uint8_t* mask, Real scale, std::int64_t cols, Real* x) {
  for (std::int64_t i = 0; i < cols; ++i) x[i] = mask[i] != 0 ? x[i] * scale : Real{0};
}

/// Row of a matrix in memory.
inline const void* row_of(DType dtype, const In& matrix, std::int64_t row) {
  return at(dtype, matrix.data, row * matrix.stride);
}
inline void* row_of(DType dtype, const Out& matrix, std::int64_t row) {
  return at(dtype, matrix.data, row * matrix.stride);
}

/// Row that `subset` names for `row`, -1 for none.
inline std::int64_t subset_row(const std::int32_t* subset, std::int64_t row) {
  return subset == nullptr ? row : std::int64_t{subset[row]} - 1;
}

template <class Real>
struct ForwardRows {
  const FusedParams& params;
  Real *x, *y;
  const Real *gamma0, *beta0, *gamma1, *beta1, *colscale;

  ForwardRows(const FusedParams& p, void* memory) : params(p) {
    Scratch<Real> scratch(memory, p.cols);
    x = scratch.row();
    y = scratch.row();
    gamma0 = scratch.parameter(p.weight_dtype, p.gamma0);
    beta0 = scratch.parameter(p.weight_dtype, p.beta0);
    gamma1 = scratch.parameter(p.weight_dtype, p.gamma1);
    beta1 = scratch.parameter(p.weight_dtype, p.beta1);
    colscale = scratch.parameter(p.weight_dtype, p.colscale);
  }

  void drop(const MaskOut& masks, std::uint32_t stream, std::int64_t row, Real* values) const {
    if (masks.data == nullptr) return;
    std::uint8_t* mask = masks.data + row * masks.stride;
    make_mask(params, stream, row, mask);
    apply_mask(mask, dropout_scale<Real>(params), params.cols, values);
  }

  void add(DType dtype, const In& matrix, std::int64_t row) const {
    if (matrix.data == nullptr) return;
    widen(dtype, row_of(dtype, matrix, row), params.cols, y);
    each(params.cols, [x = x, y = y](std::int64_t i) { x[i] += y[i]; });
  }

  void compose(std::int64_t row) const {
    const std::int64_t x0_row = subset_row(params.x0_subset, row);
    if (x0_row < 0) {
      fill(Real{0}, params.cols, x);
    } else {
      widen(params.dtype, row_of(params.dtype, params.x0, x0_row), params.cols, x);
      const Real scale = row_scale<Real>(params, row);
      if (scale != Real{1}) each(params.cols, [x = x, scale](std::int64_t i) { x[i] *= scale; });
      if (colscale != nullptr) {
        each(params.cols, [x = x, c = colscale](std::int64_t i) { x[i] *= c[i]; });
      }
      drop(params.dmask0, 0, x0_row, x);
    }
    if (params.x1.data != nullptr) {
      widen(params.dtype, row_of(params.dtype, params.x1, row), params.cols, y);
      drop(params.dmask1, 1, row, y);
      each(params.cols, [x = x, y = y](std::int64_t i) { x[i] += y[i]; });
    }
    add(params.residual_dtype, params.residual, row);
  }

  void store(const Out& z, std::int64_t z_row, const Moments& moments, double rstd,
             const Real* gamma, const Real* beta, const Streaming& streaming) const {
    if (z.data == nullptr || z_row < 0) return;
    const Real scale = static_cast<Real>(rstd);
    const Real shift = static_cast<Real>(-moments.lack * rstd);
    const auto one = [=, x = x](std::int64_t i) { return x[i] * scale + shift; };
    if (gamma != nullptr && beta != nullptr) {
      each(params.cols, [=, y = y](std::int64_t i) { y[i] = one(i) * gamma[i] + beta[i]; });
    } else if (gamma != nullptr) {
      each(params.cols, [=, y = y](std::int64_t i) { y[i] = one(i) * gamma[i]; });
    } else if (beta != nullptr) {
      each(params.cols, [=, y = y](std::int64_t i) { y[i] = one(i) + beta[i]; });
    } else {
      each(params.cols, [=, y = y](std::int64_t i) { y[i] = one(i); });
    }
    narrow(params.dtype, y, params.cols, row_of(params.dtype, z, z_row), streaming);
  }

  void run(std::int64_t begin, std::int64_t end) const {
    const Streaming of_x = streaming_of(params.residual_dtype, params.rows, params.cols);
    // Rows that a subset names were cleared before, and those of x0 itself were just read.
    const bool is_streamed = params.z_subset == nullptr && params.z0.data != params.x0.data;
    const Streaming of_z = streaming_of(params.dtype, is_streamed ? params.rows : 0, params.cols);
    for (std::int64_t row = begin; row < end; ++row) {
      compose(row);
      if (params.x.data != nullptr) {
        void* sum = row_of(params.residual_dtype, params.x, row);
        narrow(params.residual_dtype, x, params.cols, sum, of_x);
      }
      const Moments moments = center_row(params.norm, params.cols, x);
      const double rstd = 1.0 / std::sqrt(moments.variance + params.eps);
      if (params.mu != nullptr) {
        static_cast<Real*>(params.mu)[row] = static_cast<Real>(moments.center + moments.lack);
      }
      if (params.rsigma != nullptr)
        static_cast<Real*>(params.rsigma)[row] = static_cast<Real>(rstd);
      const std::int64_t z_row = subset_row(params.z_subset, row);
      store(params.z0, z_row, moments, rstd, gamma0, beta0, of_z);
      store(params.z1, z_row, moments, rstd, gamma1, beta1, of_z);
    }
  }
};

template <class Real>
struct BackwardRows {
  const FusedBackwardParams& params;
  Real *h, *dz0, *dz1, *dx, *other;
  const Real *gamma0, *gamma1, *colscale;
  simd::ColumnSums<Real> dgamma0, dbeta0, dgamma1, dbeta1, dcolscale;
  const Streaming of_dx0, of_dx1, of_dresidual;

  BackwardRows(const FusedBackwardParams& p, void* memory, double* totals)
      : params(p),
        // Rows that a subset names were cleared before.
        of_dx0(streaming_of(p.dtype, p.x0_subset == nullptr ? p.rows : 0, p.cols)),
        of_dx1(streaming_of(p.dtype, p.rows, p.cols)),
        of_dresidual(streaming_of(p.residual_dtype, p.rows, p.cols)) {
    Scratch<Real> scratch(memory, p.cols);
    h = scratch.row();
    dz0 = scratch.row();
    dz1 = scratch.row();
    dx = scratch.row();
    other = scratch.row();
    gamma0 = scratch.parameter(p.weight_dtype, p.gamma0);
    gamma1 = scratch.parameter(p.weight_dtype, p.gamma1);
    colscale = scratch.parameter(p.weight_dtype, p.colscale);
    const auto sum = [&](const void* wanted) {
      if (wanted == nullptr) return simd::ColumnSums<Real>();
      const simd::ColumnSums<Real> made(totals, scratch.row(), padded(p.cols));
      totals += padded(p.cols);
      return made;
    };
    dgamma0 = sum(p.dgamma0);
    dbeta0 = sum(p.dbeta0);
    dgamma1 = sum(p.dgamma1);
    dbeta1 = sum(p.dbeta1);
    dcolscale = sum(p.dcolscale);
  }

  template <class Visit>
  void each_sum(const Visit& visit) {
    for (auto* sum : {&dgamma0, &dbeta0, &dgamma1, &dbeta1, &dcolscale}) {
      if (sum->totals != nullptr) visit(*sum);
    }
  }

  /// Leaves (x - center) * rstd in h; returns rstd.
  Real normalized(std::int64_t row) const {
    widen(params.residual_dtype, row_of(params.residual_dtype, params.x, row), params.cols, h);
    Real rstd;
    if (params.rsigma != nullptr) {
      rstd = static_cast<const Real*>(params.rsigma)[row];
      if (params.norm == Norm::kLayer) {
        const Real center = static_cast<const Real*>(params.mu)[row];
        for (std::int64_t i = 0; i < params.cols; ++i) h[i] -= center;
      }
    } else {
      const Moments moments = center_row(params.norm, params.cols, h);
      rstd = static_cast<Real>(1.0 / std::sqrt(moments.variance + params.eps));
    }
    each(params.cols, [h = h, rstd](std::int64_t i) { h[i] *= rstd; });
    return rstd;
  }

  void add_column_sums(const Real* dz, const simd::ColumnSums<Real>& dgamma,
                       const simd::ColumnSums<Real>& dbeta, Real lack) const {
    if (dgamma.pending != nullptr) {
      each(params.cols,
           [=, h = h, sum = dgamma.pending](std::int64_t i) { sum[i] += dz[i] * (h[i] - lack); });
    }
    if (dbeta.pending != nullptr) {
      each(params.cols, [=, sum = dbeta.pending](std::int64_t i) { sum[i] += dz[i]; });
    }
  }

  /// Gradient that comes through z, into dx.
  void differentiate(std::int64_t row, std::int64_t z_row) const {
    const double share = 1.0 / static_cast<double>(params.cols);
    const Real lane_share = static_cast<Real>(share);
    const bool is_centered = params.norm == Norm::kLayer;
    const Real rstd = normalized(row);
    const auto lack = static_cast<Real>(
        is_centered
            ? row_sum<Real>(params.cols, [=, h = h](std::int64_t i) { return h[i] * lane_share; })
            : 0.0);
    widen(params.dtype, row_of(params.dtype, params.dz0, z_row), params.cols, dz0);
    add_column_sums(dz0, dgamma0, dbeta0, lack);
    const Real* g = dz0;
    if (gamma0 != nullptr) {
      each(params.cols,
           [to = dx, dz = dz0, gamma = gamma0](std::int64_t i) { to[i] = dz[i] * gamma[i]; });
      g = dx;
    }
    if (params.dz1.data != nullptr) {
      widen(params.dtype, row_of(params.dtype, params.dz1, z_row), params.cols, dz1);
      add_column_sums(dz1, dgamma1, dbeta1, lack);
      each(params.cols, [to = dx, g, dz = dz1, gamma = gamma1](std::int64_t i) {
        to[i] = g[i] + (gamma != nullptr ? dz[i] * gamma[i] : dz[i]);
      });
      g = dx;
    }
    const double mean_g =
        is_centered ? row_sum<Real>(params.cols, [=](std::int64_t i) { return g[i] * lane_share; })
                    : 0.0;
    const double raw_mean_gh = row_sum<Real>(
        params.cols, [=, h = h](std::int64_t i) { return g[i] * (h[i] * lane_share); });
    const auto mean_gh = static_cast<Real>(raw_mean_gh - static_cast<double>(lack) * mean_g);
    const auto mean = static_cast<Real>(mean_g);
    each(params.cols, [=, to = dx, h = h](std::int64_t i) {
      to[i] = (g[i] - mean - (h[i] - lack) * mean_gh) * rstd;
    });
    for (std::int64_t i = params.cols; i < padded(params.cols); ++i) dx[i] = Real{0};
  }

  /// Gradients of x0 and colscale; leaves h, dz0 and other without meaning.
  void store_dx0(std::int64_t row, std::int64_t x0_row) const {
    Real* to = dz0;
    const Real scale = row_scale<Real>(params, row);
    each(params.cols, [=, dx = dx](std::int64_t i) { to[i] = dx[i] * scale; });
    if (params.dmask0.data != nullptr) {
      apply_mask(params.dmask0.data + x0_row * params.dmask0.stride, dropout_scale<Real>(params),
                 params.cols, to);
    }
    if (dcolscale.pending != nullptr) {
      widen(params.dtype, row_of(params.dtype, params.x0, x0_row), params.cols, other);
      each(params.cols,
           [=, x0 = other, sum = dcolscale.pending](std::int64_t i) { sum[i] += to[i] * x0[i]; });
    }
    if (colscale != nullptr) {
      each(params.cols, [=, scale = colscale](std::int64_t i) { to[i] *= scale[i]; });
    }
    if (params.dx0.data != nullptr) {
      narrow(params.dtype, to, params.cols, row_of(params.dtype, params.dx0, x0_row), of_dx0);
    }
  }

  void run_row(std::int64_t row) const {
    const std::int64_t z_row = subset_row(params.z_subset, row);
    if (z_row >= 0) {
      differentiate(row, z_row);
    } else {
      fill(Real{0}, params.cols, dx);
    }
    if (params.dx.data != nullptr) {
      widen(params.residual_dtype, row_of(params.residual_dtype, params.dx, row), params.cols,
            other);
      each(params.cols, [dx = dx, more = other](std::int64_t i) { dx[i] += more[i]; });
    }
    if (params.dresidual.data != nullptr) {
      narrow(params.residual_dtype, dx, params.cols,
             row_of(params.residual_dtype, params.dresidual, row), of_dresidual);
    }
    if (params.dx1.data != nullptr) {
      each(params.cols, [from = dx, to = dz1](std::int64_t i) { to[i] = from[i]; });
      if (params.dmask1.data != nullptr) {
        apply_mask(params.dmask1.data + row * params.dmask1.stride, dropout_scale<Real>(params),
                   params.cols, dz1);
      }
      narrow(params.dtype, dz1, params.cols, row_of(params.dtype, params.dx1, row), of_dx1);
    }
    const std::int64_t x0_row = subset_row(params.x0_subset, row);
    const bool is_asked = params.dx0.data != nullptr || dcolscale.pending != nullptr;
    if (is_asked && x0_row >= 0) store_dx0(row, x0_row);
  }

  void run(std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      run_row(row);
      each_sum([](auto& sum) { sum.end_row(); });
    }
    each_sum([](auto& sum) { sum.fold(); });
  }
};

/// Rows [begin, end) of the forward call; `scratch` as cpu::run gives it.
inline void fused(const FusedParams& params, std::int64_t begin, std::int64_t end, void* scratch) {
  if (params.dtype == DType::kFloat64) return ForwardRows<double>(params, scratch).run(begin, end);
  ForwardRows<float>(params, scratch).run(begin, end);
}

/// Rows [begin, end) of the backward call; their column sums go to `totals`, one padded row each.
inline void fused_backward(const FusedBackwardParams& params, std::int64_t begin, std::int64_t end,
                           void* scratch, double* totals) {
  if (params.dtype == DType::kFloat64) {
    return BackwardRows<double>(params, scratch, totals).run(begin, end);
  }
  BackwardRows<float>(params, scratch, totals).run(begin, end);
}

/// Columns [begin, end): sum over the tasks, whose totals lie `pitch` numbers apart.
inline void sum_columns(DType dtype, const double* totals, std::int64_t pitch, std::int64_t tasks,
                        std::int64_t begin, std::int64_t end, void* out) {
  const auto store = [&](auto format) {
    using Format = decltype(format);
    simd::store_totals<Format>(static_cast<typename Format::Storage*>(out), totals, pitch, tasks,
                               begin, end);
  };
  if (dtype == DType::kFloat16) return store(simd::Float16());
  if (dtype == DType::kBFloat16) return store(simd::BFloat16());
  if (dtype == DType::kFloat32) return store(simd::Float32());
  simd::add_up_totals(totals, pitch, tasks, begin, end,
                      [out](std::int64_t first, std::int64_t columns, const double* sums) {
                        std::memcpy(static_cast<double*>(out) + first, sums,
                                    static_cast<std::size_t>(columns) * sizeof(double));
                      });
}

}  // namespace
}  // namespace kernelhub::layer_norm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
