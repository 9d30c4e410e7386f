// SPDX-License-Identifier: Apache-2.0
#include "layer_norm/checks.h"

#include <cmath>

namespace kernelhub::layer_norm {
namespace {

using primitives::ArgumentCheck;
using primitives::DType;
using primitives::DTypeCode;
using primitives::Extents;
using primitives::RowLayout;
using primitives::TensorArg;

constexpr DTypeCode kFloat{DTypeCode::kFloat, 32, 1};

void check_eps(const ArgumentCheck& check, const char* name, double eps) {
  if (!(eps >= 0.0) || std::isinf(eps)) {
    check.fail(name, "value", "a finite number of at least 0", std::to_string(eps));
  }
}

/// Its dtype is that of `like`, or float32 beside 16-bit tensors.
void check_dtype(const ArgumentCheck& check, const char* name, DTypeCode dtype,
                 const TensorArg& like) {
  const bool may_be_float = like.dtype.bits == 16;
  if (dtype == like.dtype || (may_be_float && dtype == kFloat)) return;
  check.fail(name, "dtype",
             primitives::dtype_name(like.dtype) + " as " + like.name +
                 (may_be_float ? ", or float32" : ""),
             primitives::dtype_name(dtype));
}

/// dtype of the parameters of a plain norm.
DTypeCode parameter_dtype(const ArgumentCheck& check, OptionalArg weight, OptionalArg bias,
                          const TensorArg& x) {
  const OptionalArg first = weight != nullptr ? weight : bias;
  if (first == nullptr) return x.dtype;
  check_dtype(check, first->name, first->dtype, x);
  if (bias != nullptr) check.same_dtype(*bias, *first);
  return first->dtype;
}

const char* op_name(Norm norm) { return norm == Norm::kRms ? "rms_norm" : "layer_norm"; }
const char* backward_name(Norm norm) {
  return norm == Norm::kRms ? "rms_norm_backward" : "layer_norm_backward";
}

/// A vector over the columns of x. Where it starts; null without one.
const void* checked_parameter(const ArgumentCheck& check, OptionalArg parameter,
                              const TensorArg& x) {
  if (parameter == nullptr) return nullptr;
  check.same_device(*parameter, x);
  check.shape(*parameter, {x.sizes.back()});
  check.rows(*parameter);
  return parameter->data;
}

RowLayout one_row(const TensorArg& vector) { return {1, vector.sizes[0], vector.sizes[0]}; }

/// Checks the tensors of one fused call one after the other and keeps what is written and read
/// apart.
class FusedChecks {
 public:
  FusedChecks(const char* op, const TensorArg& reference)
      : check_("layer_norm", op),
        reference_(reference),
        dtype_(check_.supported_dtype(reference)) {}

  const ArgumentCheck& check() const { return check_; }
  DType dtype() const { return dtype_; }

  In in(OptionalArg arg, Extents shape, DTypeCode dtype) { return read<In>(arg, shape, dtype); }
  MaskIn mask_in(OptionalArg arg, Extents shape) { return read<MaskIn>(arg, shape, kMask); }
  Out out(OptionalArg arg, Extents shape, DTypeCode dtype) { return write<Out>(arg, shape, dtype); }
  MaskOut mask_out(OptionalArg arg, Extents shape) { return write<MaskOut>(arg, shape, kMask); }

  /// A vector of unit stride.
  const void* vector_in(OptionalArg arg, std::int64_t size, DTypeCode dtype) {
    return in(arg, {size}, dtype).data;
  }
  void* vector_out(OptionalArg arg, std::int64_t size, DTypeCode dtype) {
    return out(arg, {size}, dtype).data;
  }
  const std::int32_t* subset(OptionalArg arg, std::int64_t rows) {
    return static_cast<const std::int32_t*>(vector_in(arg, rows, {DTypeCode::kInt, 32, 1}));
  }

  /// The dtype that `args` share: that of the reference, or float32 beside 16-bit tensors.
  DTypeCode shared_dtype(std::initializer_list<OptionalArg> args) const {
    OptionalArg first = nullptr;
    for (OptionalArg arg : args) {
      if (arg == nullptr) continue;
      if (first != nullptr) {
        check_.same_dtype(*arg, *first);
      } else {
        check_dtype(check_, arg->name, arg->dtype, reference_);
      }
      first = first == nullptr ? arg : first;
    }
    return first == nullptr ? reference_.dtype : first->dtype;
  }

  DTypeCode statistics_dtype() const { return dtype_ == kDouble ? reference_.dtype : kFloat; }
  DType storage(DTypeCode code) const { return check_.supported_dtype(reference_, code); }

  /// No two written tensors, and no written and read one, share memory.
  void check_overlaps() const {
    for (int i = 0; i < written_.count; ++i) {
      const Place& out = written_.places[i];
      for (int j = 0; j < read_.count; ++j) disjoint(out, read_.places[j]);
      for (int j = i + 1; j < written_.count; ++j) disjoint(out, written_.places[j]);
    }
  }

 private:
  static constexpr DTypeCode kMask{DTypeCode::kUInt, 8, 1};
  static constexpr DType kDouble = DType::kFloat64;

  struct Place {
    OptionalArg arg;
    RowLayout rows;
    std::intptr_t begin, end;
  };
  /// No op has more tensors that are written, or that are read.
  struct Places {
    int count = 0;
    Place places[16];

    const RowLayout& add(OptionalArg arg, const RowLayout& rows) {
      places[count] = {arg, rows, ArgumentCheck::begin_of(*arg, rows),
                       ArgumentCheck::end_of(*arg, rows)};
      return places[count++].rows;
    }
  };

  void check_tensor(const TensorArg& arg, Extents shape, DTypeCode dtype) const {
    check_.same_device(arg, reference_);
    if (arg.dtype != dtype) {
      check_.fail(arg.name, "dtype", primitives::dtype_name(dtype),
                  primitives::dtype_name(arg.dtype));
    }
    check_.shape(arg, shape);
  }

  template <class M>
  M read(OptionalArg arg, Extents shape, DTypeCode dtype) {
    if (arg == nullptr) return {};
    check_tensor(*arg, shape, dtype);
    return {static_cast<decltype(M::data)>(arg->data),
            read_.add(arg, check_.rows(*arg)).row_stride};
  }
  template <class M>
  M write(OptionalArg arg, Extents shape, DTypeCode dtype) {
    if (arg == nullptr) return {};
    check_tensor(*arg, shape, dtype);
    return {static_cast<decltype(M::data)>(arg->data),
            written_.add(arg, check_.writable_rows(*arg)).row_stride};
  }

  void disjoint(const Place& out, const Place& other) const {
    if (out.end <= other.begin || other.end <= out.begin) return;
    check_.overlap(*out.arg, out.rows, *other.arg, other.rows, ArgumentCheck::Alias::kForbidden);
  }

  ArgumentCheck check_;
  const TensorArg& reference_;
  DType dtype_;
  Places written_;
  Places read_;
};

std::int64_t row_count(Extents sizes) {
  std::int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < sizes.size(); ++i) rows *= sizes[i];
  return rows;
}

/// Shape of a tensor that subsets may cut: [n, cols] of any n where there is one, which `sizes`
/// then holds, else `like`.
Extents subset_shape(const ArgumentCheck& check, OptionalArg tensor, OptionalArg subset,
                     Extents like, std::int64_t (&sizes)[2]) {
  if (subset == nullptr || tensor == nullptr) return like;
  if (tensor->sizes.size() != 2) {
    check.fail(tensor->name, "rank", "2 beside subsets", std::to_string(tensor->sizes.size()));
  }
  sizes[0] = tensor->sizes[0];
  sizes[1] = like.back();
  return {sizes, 2};
}

void check_probability(const ArgumentCheck& check, double dropout_p) {
  if (!(dropout_p >= 0.0 && dropout_p < 1.0)) {
    check.fail("dropout_p", "value", "a number of at least 0 and below 1",
               std::to_string(dropout_p));
  }
}

void check_given(const ArgumentCheck& check, const char* name, const char* why, bool is_wanted,
                 OptionalArg arg) {
  if (is_wanted == (arg != nullptr)) return;
  check.fail(name, "presence", std::string(is_wanted ? "a tensor " : "none ") + why,
             arg != nullptr ? "one" : "none");
}

/// What a plain backward reads.
FusedBackwardParams plain_inputs(FusedChecks& checks, Norm norm, const TensorArg& grad_out,
                                 const TensorArg& x, OptionalArg weight, DTypeCode weight_dtype,
                                 double eps) {
  const ArgumentCheck& check = checks.check();
  if (x.sizes.empty()) check.fail("x", "rank", "at least 1", "0");
  check_eps(check, "eps", eps);
  check_dtype(check, weight != nullptr ? weight->name : "grad_bias", weight_dtype, x);
  FusedBackwardParams params{};
  params.norm = norm;
  params.dtype = params.residual_dtype = checks.dtype();
  params.weight_dtype = checks.storage(weight_dtype);
  params.rows = params.x0_rows = params.z_rows = row_count(x.sizes);
  params.cols = x.sizes.back();
  params.rowscale_const = 1.0;
  params.eps = eps;
  params.x = checks.in(&x, x.sizes, x.dtype);
  params.dz0 = checks.in(&grad_out, x.sizes, x.dtype);
  params.gamma0 = checks.vector_in(weight, params.cols, weight_dtype);
  return params;
}

}  // namespace

Params checked_inputs(Norm norm, const TensorArg& x, OptionalArg weight, OptionalArg bias,
                      double eps) {
  const ArgumentCheck check("layer_norm", op_name(norm));
  const DType dtype = check.supported_dtype(x);
  if (x.sizes.empty()) check.fail("x", "rank", "at least 1", "0");
  check_eps(check, "eps", eps);
  const RowLayout rows = check.rows(x);
  const DType weight_dtype = check.supported_dtype(x, parameter_dtype(check, weight, bias, x));
  return {norm,
          dtype,
          weight_dtype,
          nullptr,
          x.data,
          checked_parameter(check, weight, x),
          checked_parameter(check, bias, x),
          rows.rows,
          rows.cols,
          rows.cols,
          rows.row_stride,
          eps};
}

Params checked_params(Norm norm, const TensorArg& out, const TensorArg& x, OptionalArg weight,
                      OptionalArg bias, double eps) {
  const ArgumentCheck check("layer_norm", op_name(norm));
  Params params = checked_inputs(norm, x, weight, bias, eps);
  check.same_device(out, x);
  check.same_dtype(out, x);
  check.shape(out, x.sizes);
  const RowLayout rows = check.writable_rows(out);
  check.overlap(out, rows, x, {params.rows, params.cols, params.x_stride},
                ArgumentCheck::Alias::kExact);
  for (const OptionalArg parameter : {weight, bias}) {
    if (parameter == nullptr) continue;
    check.overlap(out, rows, *parameter, one_row(*parameter), ArgumentCheck::Alias::kForbidden);
  }
  params.out = out.data;
  params.out_stride = rows.row_stride;
  return params;
}

FusedBackwardParams checked_backward_inputs(Norm norm, const TensorArg& grad_out,
                                            const TensorArg& x, OptionalArg weight,
                                            std::optional<DTypeCode> bias_dtype, double eps) {
  FusedChecks checks(backward_name(norm), x);
  if (weight != nullptr && bias_dtype.has_value() && *bias_dtype != weight->dtype) {
    checks.check().fail("bias_dtype", "value",
                        primitives::dtype_name(weight->dtype) + ", that of weight",
                        primitives::dtype_name(*bias_dtype));
  }
  const DTypeCode weight_dtype = weight != nullptr ? weight->dtype : bias_dtype.value_or(x.dtype);
  return plain_inputs(checks, norm, grad_out, x, weight, weight_dtype, eps);
}

FusedBackwardParams checked_backward_params(Norm norm, OptionalArg grad_x, OptionalArg grad_weight,
                                            OptionalArg grad_bias, const TensorArg& grad_out,
                                            const TensorArg& x, OptionalArg weight, double eps) {
  FusedChecks checks(backward_name(norm), x);
  const OptionalArg parameter = weight != nullptr ? weight : grad_bias;
  const DTypeCode weight_dtype = parameter != nullptr ? parameter->dtype : x.dtype;
  FusedBackwardParams params = plain_inputs(checks, norm, grad_out, x, weight, weight_dtype, eps);
  params.dx0 = checks.out(grad_x, x.sizes, x.dtype);
  params.dgamma0 = checks.vector_out(grad_weight, params.cols, weight_dtype);
  params.dbeta0 = checks.vector_out(grad_bias, params.cols, weight_dtype);
  checks.check_overlaps();
  return params;
}

FusedParams checked_params(const FusedArgs& args) {
  const TensorArg& x0 = *args.x0;
  FusedChecks checks("dropout_add_norm", x0);
  const ArgumentCheck& check = checks.check();
  if (x0.sizes.empty()) check.fail("x0", "rank", "at least 1", "0");
  check_eps(check, "epsilon", args.epsilon);
  check_probability(check, args.dropout_p);
  const std::int64_t cols = x0.sizes.back();
  std::int64_t x0_sizes[2], z_sizes[2];
  subset_shape(check, &x0, args.x0_subset, x0.sizes, x0_sizes);
  const std::int64_t subset[] = {args.x0_subset == nullptr ? 0 : args.x0_subset->numel(), cols};
  const Extents shape = args.x0_subset == nullptr ? x0.sizes : Extents(subset, 2);
  const Extents z_shape = subset_shape(check, args.z0, args.z_subset, shape, z_sizes);
  const bool has_dropout = args.dropout_p > 0.0;
  check_given(check, "seed", "where dropout_p is above 0, else none", has_dropout, args.seed);
  check_given(check, "dmask0", "where dropout_p is above 0, else none", has_dropout, args.dmask0);
  check_given(check, "dmask1", "where there are x1 and dropout, else none",
              has_dropout && args.x1 != nullptr, args.dmask1);
  if (args.z1 == nullptr) {
    check_given(check, "gamma1", "without z1", false, args.gamma1);
    check_given(check, "beta1", "without z1", false, args.beta1);
  }
  const DTypeCode dtype = x0.dtype;
  const DTypeCode residual_dtype = checks.shared_dtype({args.residual, args.x});
  const DTypeCode weight_dtype =
      checks.shared_dtype({args.gamma0, args.beta0, args.gamma1, args.beta1, args.colscale});

  FusedParams params{};
  params.norm = args.is_rms_norm ? Norm::kRms : Norm::kLayer;
  params.dtype = checks.dtype();
  params.residual_dtype = checks.storage(residual_dtype);
  params.weight_dtype = checks.storage(weight_dtype);
  params.rows = row_count(shape);
  params.cols = cols;
  params.x0_rows = row_count(x0.sizes);
  params.z_rows = row_count(z_shape);
  params.rowscale = checks.vector_in(args.rowscale, params.rows, dtype);
  params.colscale = checks.vector_in(args.colscale, cols, weight_dtype);
  params.x0_subset = checks.subset(args.x0_subset, params.rows);
  params.z_subset = checks.subset(args.z_subset, params.rows);
  params.rowscale_const = args.rowscale_const;
  params.dropout_p = args.dropout_p;
  params.eps = args.epsilon;
  params.x0 = checks.in(&x0, x0.sizes, dtype);
  params.x1 = checks.in(args.x1, shape, dtype);
  params.residual = checks.in(args.residual, shape, residual_dtype);
  params.gamma0 = checks.vector_in(args.gamma0, cols, weight_dtype);
  params.beta0 = checks.vector_in(args.beta0, cols, weight_dtype);
  params.gamma1 = checks.vector_in(args.gamma1, cols, weight_dtype);
  params.beta1 = checks.vector_in(args.beta1, cols, weight_dtype);
  params.seed =
      static_cast<const std::int64_t*>(checks.vector_in(args.seed, 1, {DTypeCode::kInt, 64, 1}));
  params.z0 = checks.out(args.z0, z_shape, dtype);
  params.z1 = checks.out(args.z1, z_shape, dtype);
  params.x = checks.out(args.x, shape, residual_dtype);
  params.dmask0 = checks.mask_out(args.dmask0, x0.sizes);
  params.dmask1 = checks.mask_out(args.dmask1, shape);
  params.mu = checks.vector_out(args.mu, params.rows, checks.statistics_dtype());
  params.rsigma = checks.vector_out(args.rsigma, params.rows, checks.statistics_dtype());
  checks.check_overlaps();
  return params;
}

FusedBackwardParams checked_params(const FusedBackwardArgs& args) {
  const TensorArg& dz0 = *args.dz0;
  const TensorArg& x = *args.x;
  FusedChecks checks("dropout_add_norm_backward", dz0);
  const ArgumentCheck& check = checks.check();
  if (x.sizes.empty()) check.fail("x", "rank", "at least 1", "0");
  check_eps(check, "epsilon", args.epsilon);
  check_probability(check, args.dropout_p);
  const Extents shape = x.sizes;
  const std::int64_t cols = shape.back();
  std::int64_t x_sizes[2], x0_sizes[2], z_sizes[2];
  if (args.x0_subset != nullptr || args.z_subset != nullptr) {
    subset_shape(check, &x, &x, shape, x_sizes);
  }
  const Extents z_shape = subset_shape(check, &dz0, args.z_subset, shape, z_sizes);
  OptionalArg any_x0 = args.dx0 != nullptr ? args.dx0 : args.x0;
  any_x0 = any_x0 != nullptr ? any_x0 : args.dmask0;
  const Extents x0_shape = subset_shape(check, any_x0, args.x0_subset, shape, x0_sizes);
  const bool has_dropout = args.dropout_p > 0.0;
  check_given(check, "dmask0", "where dropout_p is above 0, else none", has_dropout, args.dmask0);
  check_given(check, "dmask1", "where there are dx1 and dropout, else none",
              has_dropout && args.dx1 != nullptr, args.dmask1);
  check_given(check, "rsigma", "beside mu, else none", args.mu != nullptr, args.rsigma);
  if (args.dcolscale != nullptr) {
    check_given(check, "x0", "where there is dcolscale", true, args.x0);
    check_given(check, "colscale", "where there is dcolscale", true, args.colscale);
  }
  if (args.dz1 == nullptr) {
    check_given(check, "dgamma1", "without dz1", false, args.dgamma1);
    check_given(check, "dbeta1", "without dz1", false, args.dbeta1);
  }
  const DTypeCode dtype = dz0.dtype;
  const DTypeCode residual_dtype = checks.shared_dtype({args.x, args.dx, args.dresidual});
  const DTypeCode weight_dtype =
      checks.shared_dtype({args.gamma0, args.gamma1, args.colscale, args.dgamma0, args.dbeta0,
                           args.dgamma1, args.dbeta1, args.dcolscale});

  FusedBackwardParams params{};
  params.norm = args.is_rms_norm ? Norm::kRms : Norm::kLayer;
  params.dtype = checks.dtype();
  params.residual_dtype = checks.storage(residual_dtype);
  params.weight_dtype = checks.storage(weight_dtype);
  params.rows = row_count(shape);
  params.cols = cols;
  params.x0_rows = row_count(x0_shape);
  params.z_rows = row_count(z_shape);
  params.rowscale = checks.vector_in(args.rowscale, params.rows, dtype);
  params.colscale = checks.vector_in(args.colscale, cols, weight_dtype);
  params.x0_subset = checks.subset(args.x0_subset, params.rows);
  params.z_subset = checks.subset(args.z_subset, params.rows);
  params.rowscale_const = args.rowscale_const;
  params.dropout_p = args.dropout_p;
  params.eps = args.epsilon;
  params.dz0 = checks.in(&dz0, z_shape, dtype);
  params.dz1 = checks.in(args.dz1, z_shape, dtype);
  params.dx = checks.in(args.dx, shape, residual_dtype);
  params.x = checks.in(&x, shape, residual_dtype);
  params.x0 = checks.in(args.x0, x0_shape, dtype);
  params.dmask0 = checks.mask_in(args.dmask0, x0_shape);
  params.dmask1 = checks.mask_in(args.dmask1, shape);
  params.mu = checks.vector_in(args.mu, params.rows, checks.statistics_dtype());
  params.rsigma = checks.vector_in(args.rsigma, params.rows, checks.statistics_dtype());
  params.gamma0 = checks.vector_in(args.gamma0, cols, weight_dtype);
  params.gamma1 = checks.vector_in(args.gamma1, cols, weight_dtype);
  params.dx0 = checks.out(args.dx0, x0_shape, dtype);
  params.dx1 = checks.out(args.dx1, shape, dtype);
  params.dresidual = checks.out(args.dresidual, shape, residual_dtype);
  params.dgamma0 = checks.vector_out(args.dgamma0, cols, weight_dtype);
  params.dbeta0 = checks.vector_out(args.dbeta0, cols, weight_dtype);
  params.dgamma1 = checks.vector_out(args.dgamma1, cols, weight_dtype);
  params.dbeta1 = checks.vector_out(args.dbeta1, cols, weight_dtype);
  params.dcolscale = checks.vector_out(args.dcolscale, cols, weight_dtype);
  checks.check_overlaps();
  return params;
}

}  // namespace kernelhub::layer_norm
