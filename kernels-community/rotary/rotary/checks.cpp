// SPDX-License-Identifier: Apache-2.0
#include "rotary/checks.h"

#include <algorithm>

#include "primitives/strided_region.h"

namespace kernelhub::rotary {
namespace {

using primitives::ArgumentCheck;
using primitives::DType;
using primitives::DTypeCode;
using primitives::Extents;
using primitives::list_text;
using primitives::StridedRegion;
using primitives::TensorArg;

constexpr int kMaxRank = StridedRegion::kMaxRank;

std::string text(std::int64_t value) { return std::to_string(value); }

const char* address(const TensorArg& tensor, std::int64_t elements) {
  return static_cast<const char*>(tensor.data) + elements * (tensor.dtype.bits / 8);
}

// What bad calls come to is not inlined: it would lie between what good ones run through.

[[noreturn, gnu::cold, gnu::noinline]] void refuse_rank(const ArgumentCheck& check,
                                                        const TensorArg& tensor) {
  const std::size_t rank = tensor.sizes.size();
  if (rank == 0) check.fail(tensor.name, "rank", "at least 1", "0");
  check.fail(tensor.name, "rank", "at most " + text(kMaxRank), text(rank));
}

[[noreturn, gnu::cold, gnu::noinline]] void refuse_layout(const ArgumentCheck& check,
                                                          const TensorArg* const* tensors,
                                                          Extents sizes) {
  for (;; ++tensors) {
    const TensorArg& tensor = **tensors;
    check.shape(tensor, sizes);
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      if (sizes[i] <= 1 || tensor.strides[i] >= 0) continue;
      check.fail(tensor.name, "strides", "no negative ones", list_text(tensor.strides));
    }
    if (sizes.back() == 1 || tensor.strides.back() == 1) continue;
    check.fail(tensor.name, "last stride", "1", text(tensor.strides.back()));
  }
}

[[noreturn, gnu::cold, gnu::noinline]] void refuse_table_dtype(const ArgumentCheck& check,
                                                               const TensorArg& cos,
                                                               const TensorArg& x) {
  check.fail(cos.name, "dtype", dtype_name(x.dtype) + " as " + x.name + ", or float32",
             dtype_name(cos.dtype));
}

[[noreturn, gnu::cold, gnu::noinline]] void refuse_shared_elements(const ArgumentCheck& check,
                                                                   const TensorArg& out) {
  check.fail(out.name, "strides", "elements that share no memory",
             list_text(out.strides) + " for shape " + list_text(out.sizes));
}

[[noreturn, gnu::cold, gnu::noinline]] void refuse_width(const ArgumentCheck& check,
                                                         const TensorArg& tensor,
                                                         std::int64_t width) {
  const std::int64_t columns = tensor.sizes.back();
  check.fail(tensor.name, "last dimension",
             columns == width ? "an even number" : text(width) + " as q", text(columns));
}

[[noreturn, gnu::cold, gnu::noinline]] void refuse_rotary_dim(const ArgumentCheck& check,
                                                              const TensorArg& tensor,
                                                              std::int64_t rotary_dim) {
  check.fail("rotary_dim", "value",
             "an even number from 2 to " + text(tensor.sizes.back()) + ", the last dimension of " +
                 tensor.name,
             text(rotary_dim));
}

[[noreturn, gnu::cold, gnu::noinline]] void refuse_table_width(const ArgumentCheck& check,
                                                               const TensorArg& cos,
                                                               std::int64_t rotary_dim) {
  check.fail(cos.name, "last dimension", text(rotary_dim) + " or " + text(rotary_dim / 2),
             text(cos.sizes.back()));
}

[[noreturn, gnu::cold, gnu::noinline]] void refuse_unsqueeze_dim(const ArgumentCheck& check,
                                                                 std::int64_t unsqueeze_dim,
                                                                 std::int64_t rank) {
  check.fail("unsqueeze_dim", "value",
             "0 to " + text(rank - 1) + " or " + text(-rank - 1) + " to -2", text(unsqueeze_dim));
}

/// A tensor and the addresses that it lies between.
struct Placed {
  const TensorArg* arg;
  std::uintptr_t begin;
  std::uintptr_t end;  // behind the last byte; 0 where there is no element
  bool is_nested;      // every step is wider than all within it: no two elements share memory

  bool is_empty() const { return end == 0; }
};

enum class Rows { kAny, kUnitStride };

/// Tensors of one shape, described in one pass over it. Made where they stay: a copy would have to
/// wait for what was just written.
template <std::size_t kCount>
struct Alike {
  Alike(const ArgumentCheck& check, Rows rows, const TensorArg* const (&tensors)[kCount]) {
    const Extents sizes = tensors[0]->sizes;
    const std::size_t rank = sizes.size();
    if (rank == 0 || rank > kMaxRank) refuse_rank(check, *tensors[0]);
    for (const TensorArg* tensor : tensors) {
      if (tensor->sizes.size() != rank) check.shape(*tensor, sizes);
    }
    std::int64_t elements[kCount];  // from the first to behind the last
    bool is_nested[kCount];
    for (std::size_t k = 0; k < kCount; ++k) {
      elements[k] = 1;
      is_nested[k] = true;
    }
    bool is_empty = false, is_alike = true;
    std::int64_t signs = 0;
#pragma GCC unroll 1
    for (auto i = static_cast<int>(rank) - 1; i >= 0; --i) {
      const std::int64_t size = sizes[i];
      for (std::size_t k = 1; k < kCount; ++k) is_alike &= tensors[k]->sizes[i] == size;
      if (size <= 1) {
        is_empty |= size == 0;
        continue;
      }
      for (std::size_t k = 0; k < kCount; ++k) {
        const std::int64_t stride = tensors[k]->strides[i];
        signs |= stride;
        is_nested[k] &= stride >= elements[k];
        elements[k] += (size - 1) * stride;
      }
    }
    bool is_plain = is_alike && signs >= 0;
    if (rows == Rows::kUnitStride && sizes.back() > 1 && !is_empty) {
      for (const TensorArg* tensor : tensors) is_plain &= tensor->strides.back() == 1;
    }
    if (!is_plain) refuse_layout(check, tensors, sizes);
    for (std::size_t k = 0; k < kCount; ++k) {
      const auto begin = reinterpret_cast<std::uintptr_t>(tensors[k]->data);
      const auto bytes = static_cast<std::uintptr_t>(elements[k] * (tensors[k]->dtype.bits / 8));
      of[k] = {tensors[k], begin, is_empty ? 0 : begin + bytes, is_nested[k]};
    }
  }
  Alike(const Alike&) = delete;
  Alike& operator=(const Alike&) = delete;

  Placed of[kCount];
};

/// cos and sin: of x's dtype or float32, and alike.
DType table_dtype(const ArgumentCheck& check, const TensorArg& x, const TensorArg& cos,
                  const TensorArg& sin) {
  const bool is_fp32 = cos.dtype == DTypeCode{DTypeCode::kFloat, 32, 1};
  if (!is_fp32 && cos.dtype != x.dtype) refuse_table_dtype(check, cos, x);
  check.same_dtype(sin, cos);
  return is_fp32 ? DType::kFloat32 : check.supported_dtype(x);
}

/// cos, sin and positions of a call, as every part sees them.
struct Tables {
  Tables(const Placed& cos, const Placed& sin, const Placed* positions, int unsqueeze)
      : cos(cos),
        sin(sin),
        positions(positions),
        unsqueeze(unsqueeze),
        shape(positions != nullptr ? *positions->arg : *cos.arg),
        count(static_cast<int>(shape.sizes.size()) - (positions != nullptr ? 0 : 1)),
        inserted_at(unsqueeze >= 0 ? unsqueeze : count) {}

  /// Of a tensor's `place`-th dimension from where the tables' own begin: which of theirs that is,
  /// or negative.
  int dim_at(int place) const {
    if (place < inserted_at) return place;
    return place == inserted_at ? -1 : place - 1;
  }

  const Placed& cos;
  const Placed& sin;
  const Placed* positions;
  int unsqueeze;           // -1: none
  const TensorArg& shape;  // has the leading dimensions
  int count;               // of these
  int inserted_at;         // where a dimension of one index is inserted into them
};

[[noreturn, gnu::cold, gnu::noinline]] void refuse_broadcast(const ArgumentCheck& check,
                                                             const Tables& tables,
                                                             const TensorArg& rotated) {
  check.fail(tables.shape.name, "shape",
             "one that broadcasts to the leading dimensions of " + std::string(rotated.name) + " " +
                 list_text(rotated.sizes),
             list_text(tables.shape.sizes) +
                 (tables.unsqueeze >= 0 ? " unsqueezed at " + text(tables.unsqueeze) : ""));
}

[[noreturn, gnu::cold, gnu::noinline]] void refuse_dims(const ArgumentCheck& check,
                                                        const TensorArg& rotated) {
  check.fail(rotated.name, "strides",
             "at most " + text(kMaxDims) + " leading dimensions that are not one",
             list_text(rotated.strides) + " for shape " + list_text(rotated.sizes));
}

/// Strides of all operands along one dimension, in the order of a part.
struct Strides {
  std::int64_t x1, x2, out1, out2, cos, sin, positions;
};

void set_strides(Part& part, int dim, const Strides& strides) {
  part.x1.strides[dim] = strides.x1;
  part.x2.strides[dim] = strides.x2;
  part.out1.strides[dim] = strides.out1;
  part.out2.strides[dim] = strides.out2;
  part.cos.strides[dim] = strides.cos;
  part.sin.strides[dim] = strides.sin;
  part.positions.strides[dim] = strides.positions;
}

/// Whether a dimension of these strides continues dimension `dim` for every operand.
bool continues(const Strides& strides, const Part& part, int dim) {
  const std::int64_t size = part.sizes[dim];
  return strides.x1 == part.x1.strides[dim] * size && strides.x2 == part.x2.strides[dim] * size &&
         strides.out1 == part.out1.strides[dim] * size &&
         strides.out2 == part.out2.strides[dim] * size &&
         strides.cos == part.cos.strides[dim] * size &&
         strides.sin == part.sin.strides[dim] * size &&
         strides.positions == part.positions.strides[dim] * size;
}

/// What is rotated, by tables whose dimensions are aligned at the right with its leading ones:
/// widest stride of the output first, without dimensions of one index, merged where they are one.
void set_dims(const ArgumentCheck& check, const Tables& tables, const TensorArg& x1,
              const TensorArg& x2, const TensorArg& out1, const TensorArg& out2, Part& part) {
  const int count = static_cast<int>(x1.sizes.size()) - 1;
  const int first = count - tables.count - (tables.unsqueeze >= 0 ? 1 : 0);
  for (int place = 0; place < -first; ++place) {
    const int from = tables.dim_at(place);
    if (from >= 0 && tables.shape.sizes[from] != 1) refuse_broadcast(check, tables, x1);
  }
  int order[kMaxRank];
  int kept = 0;
#pragma GCC unroll 1
  for (int dim = 0; dim < count; ++dim) {
    const std::int64_t size = x1.sizes[dim];
    const int from = tables.dim_at(dim - first);
    if (from >= 0 && tables.shape.sizes[from] != 1 && tables.shape.sizes[from] != size) {
      refuse_broadcast(check, tables, x1);
    }
    if (size == 1) continue;
    int at = kept++;
    for (; at > 0 && out1.strides[order[at - 1]] < out1.strides[dim]; --at) {
      order[at] = order[at - 1];
    }
    order[at] = dim;
  }
  std::fill_n(part.sizes, kMaxDims, 1);
  for (std::int64_t* strides :
       {part.x1.strides, part.x2.strides, part.out1.strides, part.out2.strides, part.cos.strides,
        part.sin.strides, part.positions.strides}) {
    std::fill_n(strides, kMaxDims, 0);
  }
  int outermost = kMaxDims;
  while (kept-- > 0) {
    const int dim = order[kept];
    const int from = tables.dim_at(dim - first);
    Strides strides{
        x1.strides[dim], x2.strides[dim], out1.strides[dim], out2.strides[dim], 0, 0, 0};
    if (from >= 0 && tables.shape.sizes[from] != 1) {
      if (tables.positions != nullptr) {
        strides.positions = tables.shape.strides[from];
      } else {
        strides.cos = tables.cos.arg->strides[from];
        strides.sin = tables.sin.arg->strides[from];
      }
    }
    if (outermost < kMaxDims && continues(strides, part, outermost)) {
      part.sizes[outermost] *= x1.sizes[dim];
      continue;
    }
    if (outermost == 0) refuse_dims(check, x1);
    part.sizes[--outermost] = x1.sizes[dim];
    set_strides(part, outermost, strides);
  }
}

void writable(const ArgumentCheck& check, const Placed& out) {
  if (out.is_nested || StridedRegion(*out.arg).is_injective()) return;
  refuse_shared_elements(check, *out.arg);
}

/// Whether two tensors may share a byte, as far as their first and last tell.
bool touch(const Placed& a, const Placed& b) { return a.begin < b.end && b.begin < a.end; }

[[gnu::noinline]] void disjoint_where_they_touch(const ArgumentCheck& check, const TensorArg& out,
                                                 const TensorArg& input) {
  if (!StridedRegion(out).intersects(StridedRegion(input))) return;
  check.fail(out.name, "memory", std::string("disjoint from ") + input.name, "an overlap");
}

void disjoint(const ArgumentCheck& check, const Placed& out, const Placed& input) {
  if (touch(out, input)) disjoint_where_they_touch(check, *out.arg, *input.arg);
}

void disjoint_or_same(const ArgumentCheck& check, const Placed& placed_out,
                      const Placed& placed_input) {
  if (!touch(placed_out, placed_input)) return;
  const TensorArg& out = *placed_out.arg;
  const TensorArg& input = *placed_input.arg;
  // Of one shape, as they are, and in one order: the same bytes transposed would be overwritten
  // before they are read.
  bool is_same = out.data == input.data;
  for (std::size_t i = 0; i < out.sizes.size(); ++i) {
    is_same = is_same && (out.sizes[i] == 1 || out.strides[i] == input.strides[i]);
  }
  if (is_same || !StridedRegion(out).intersects(StridedRegion(input))) return;
  check.fail(out.name, "memory", std::string("disjoint from ") + input.name + " or identical to it",
             "partial overlap");
}

/// `unsqueeze_dim` counted from the front, for a table (or gathered table) of `rank` dimensions.
int unsqueeze_place(const ArgumentCheck& check, std::int64_t unsqueeze_dim, std::int64_t rank) {
  const std::int64_t place = unsqueeze_dim < 0 ? unsqueeze_dim + rank + 1 : unsqueeze_dim;
  if (place < 0 || place >= rank) {
    refuse_unsqueeze_dim(check, unsqueeze_dim, rank);
  }
  return static_cast<int>(place);
}

std::int64_t checked_rotary_dim(const ArgumentCheck& check, const Embedding& call) {
  const std::int64_t width = call.q->sizes.back();
  const bool is_whole = !call.rotary_dim.has_value();
  const std::int64_t rotary_dim = call.rotary_dim.value_or(width);
  for (const TensorArg* tensor : {call.q, call.k}) {
    if (tensor == nullptr) continue;
    const std::int64_t columns = tensor->sizes.back();
    if (is_whole) {
      if (columns == width && width % 2 == 0) continue;
      refuse_width(check, *tensor, width);
    }
    const bool is_empty = rotary_dim == 0 && columns == 0;
    if (is_empty || (rotary_dim >= 2 && rotary_dim % 2 == 0 && rotary_dim <= columns)) continue;
    refuse_rotary_dim(check, *tensor, rotary_dim);
  }
  return rotary_dim;
}

void check_table_width(const ArgumentCheck& check, const TensorArg& cos, std::int64_t rotary_dim) {
  const std::int64_t width = cos.sizes.back();
  if (width == rotary_dim || width * 2 == rotary_dim) return;
  refuse_table_width(check, cos, rotary_dim);
}

template <class Index>
void check_host_positions(const ArgumentCheck& check, const TensorArg& positions,
                          std::int64_t rows) {
  const std::int64_t count = positions.numel();
  std::int64_t index[kMaxRank] = {};
  std::int64_t offset = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t value = static_cast<const Index*>(positions.data)[offset];
    if (value < 0 || value >= rows) {
      check.fail(positions.name, "value", "0 to " + text(rows - 1) + ", a row of cos", text(value));
    }
    for (std::size_t d = positions.sizes.size(); d-- > 0;) {
      offset += positions.strides[d];
      if (++index[d] < positions.sizes[d]) break;
      offset -= positions.strides[d] * index[d];
      index[d] = 0;
    }
  }
}

void check_positions(const ArgumentCheck& check, const TensorArg& positions, const TensorArg& cos) {
  const DTypeCode code = positions.dtype;
  const bool is_wide = code == DTypeCode{DTypeCode::kInt, 64, 1};
  if (!is_wide && code != DTypeCode{DTypeCode::kInt, 32, 1}) {
    check.fail(positions.name, "dtype", "int32 or int64", dtype_name(code));
  }
  if (cos.sizes.size() != 2) {
    check.fail(cos.name, "rank", "2, positions by columns", text(cos.sizes.size()));
  }
  if (positions.device_type != primitives::kCpuDevice) return;
  if (is_wide) {
    check_host_positions<std::int64_t>(check, positions, cos.sizes[0]);
  } else {
    check_host_positions<std::int32_t>(check, positions, cos.sizes[0]);
  }
}

/// One tensor of an op on whole tensors.
struct Rotated {
  Rotated(const ArgumentCheck& check, const TensorArg& x, const TensorArg& out)
      : placed(check, Rows::kUnitStride, {&x, &out}) {}

  const Placed& x() const { return placed.of[0]; }
  const Placed& out() const { return placed.of[1]; }
  bool is_in_place() const { return x().arg == out().arg; }

  Alike<2> placed;
};

/// Checks its memory on its own.
void check_rotated(const ArgumentCheck& check, const Rotated& rotated, const TensorArg& q) {
  for (const Placed& placed : rotated.placed.of) {
    check.same_device(*placed.arg, q);
    check.same_dtype(*placed.arg, q);
  }
  writable(check, rotated.out());
  if (!rotated.is_in_place()) disjoint_or_same(check, rotated.out(), rotated.x());
}

void check_tables_apart(const ArgumentCheck& check, const Tables& tables, const Placed& out) {
  disjoint(check, out, tables.cos);
  disjoint(check, out, tables.sin);
  if (tables.positions != nullptr) disjoint(check, out, *tables.positions);
}

void check_pair_apart(const ArgumentCheck& check, const Rotated& q, const Rotated& k) {
  disjoint(check, q.out(), k.x());
  if (k.is_in_place()) return;
  disjoint(check, q.out(), k.out());
  disjoint(check, k.out(), q.x());
}

void add_part(const ArgumentCheck& check, const Tables& tables, const Rotated& rotated,
              Params& params) {
  const TensorArg& x = *rotated.x().arg;
  const TensorArg& out = *rotated.out().arg;
  Part& part = params.parts[params.count];
  set_dims(check, tables, x, x, out, out, part);
  if (rotated.x().is_empty()) return;
  ++params.count;
  const std::int64_t second = params.interleaved ? 1 : params.half;
  part.x1.data = address(x, 0);
  part.x2.data = address(x, second);
  part.out1.data = const_cast<char*>(address(out, 0));
  part.out2.data = const_cast<char*>(address(out, second));
  part.cos.data = tables.cos.arg->data;
  part.sin.data = tables.sin.arg->data;
  part.positions.data = tables.positions == nullptr ? nullptr : tables.positions->arg->data;
  part.tail = x.data == out.data ? 0 : x.sizes.back() - 2 * params.half;
}

/// A call without parts or positions yet.
void set_plain(Params& params) {
  params.count = 0;
  params.interleaved = params.conj = params.has_wide_positions = false;
  params.cos_stride = params.sin_stride = params.table_rows = 0;
}

}  // namespace

Params checked_halves(const TensorArg& x1, const TensorArg& x2, const TensorArg& cos,
                      const TensorArg& sin, const TensorArg& out1, const TensorArg& out2,
                      bool conj) {
  const ArgumentCheck check("rotary", "apply_rotary");
  for (const TensorArg* tensor : {&x2, &cos, &sin, &out1, &out2}) check.same_device(*tensor, x1);
  Params params;
  set_plain(params);
  params.dtype = check.supported_dtype(x1);
  for (const TensorArg* tensor : {&x2, &out1, &out2}) check.same_dtype(*tensor, x1);
  const Alike<4> halves(check, Rows::kUnitStride, {&x1, &x2, &out1, &out2});
  const auto& [placed_x1, placed_x2, placed_out1, placed_out2] = halves.of;
  const Alike<2> placed_tables(check, Rows::kUnitStride, {&cos, &sin});
  params.table_dtype = table_dtype(check, x1, cos, sin);
  params.half = x1.sizes.back();
  params.conj = conj;
  if (cos.sizes.back() != params.half) {
    check.fail(cos.name, "last dimension", text(params.half) + " as x1", text(cos.sizes.back()));
  }

  const Tables tables(placed_tables.of[0], placed_tables.of[1], nullptr, -1);
  writable(check, placed_out1);
  writable(check, placed_out2);
  disjoint_or_same(check, placed_out1, placed_x1);
  disjoint_or_same(check, placed_out2, placed_x2);
  disjoint(check, placed_out1, placed_x2);
  disjoint(check, placed_out2, placed_x1);
  disjoint(check, placed_out1, placed_out2);
  check_tables_apart(check, tables, placed_out1);
  check_tables_apart(check, tables, placed_out2);

  Part& part = params.parts[0];
  set_dims(check, tables, x1, x2, out1, out2, part);
  if (placed_x1.is_empty()) return params;
  params.count = 1;
  part.x1.data = x1.data;
  part.x2.data = x2.data;
  part.out1.data = out1.data;
  part.out2.data = out2.data;
  part.cos.data = cos.data;
  part.sin.data = sin.data;
  part.positions.data = nullptr;
  part.tail = 0;
  return params;
}

Params checked_embedding(const Embedding& call) {
  const ArgumentCheck check("rotary", call.op);
  const TensorArg& q = *call.q;
  const TensorArg& cos = *call.cos;
  const TensorArg& sin = *call.sin;
  if ((call.k == nullptr) != (call.k_out == nullptr)) {
    check.fail("k_out", "presence", "that of k",
               call.k == nullptr ? "k_out without k" : "k without k_out");
  }
  Params params;
  set_plain(params);
  params.dtype = check.supported_dtype(q);
  check.same_device(cos, q);
  check.same_device(sin, q);
  const Alike<2> placed_tables(check, Rows::kUnitStride, {&cos, &sin});
  params.table_dtype = table_dtype(check, q, cos, sin);
  const Rotated rotated_q(check, q, *call.q_out);
  check_rotated(check, rotated_q, q);
  std::optional<Rotated> rotated_k;
  if (call.k != nullptr) {
    rotated_k.emplace(check, *call.k, *call.k_out);
    check_rotated(check, *rotated_k, q);
    check_pair_apart(check, rotated_q, *rotated_k);
  }
  const std::int64_t rotary_dim = checked_rotary_dim(check, call);
  check_table_width(check, cos, rotary_dim);
  params.half = rotary_dim / 2;
  params.interleaved = call.interleaved;
  params.conj = call.conj;
  std::size_t table_rank = cos.sizes.size();
  std::optional<Alike<1>> positions;
  if (call.positions != nullptr) {
    check.same_device(*call.positions, q);
    const TensorArg* const only[] = {call.positions};
    positions.emplace(check, Rows::kAny, only);
    check_positions(check, *call.positions, cos);
    table_rank = call.positions->sizes.size() + 1;
    params.has_wide_positions = call.positions->dtype.bits == 64;
    params.cos_stride = cos.strides[0];
    params.sin_stride = sin.strides[0];
    params.table_rows = cos.sizes[0];
  }
  const int unsqueeze =
      unsqueeze_place(check, call.unsqueeze_dim, static_cast<std::int64_t>(table_rank));
  const Tables tables(placed_tables.of[0], placed_tables.of[1],
                      positions.has_value() ? positions->of : nullptr, unsqueeze);
  check_tables_apart(check, tables, rotated_q.out());
  if (rotated_k.has_value()) check_tables_apart(check, tables, rotated_k->out());
  add_part(check, tables, rotated_q, params);
  if (rotated_k.has_value()) add_part(check, tables, *rotated_k, params);
  return params;
}

}  // namespace kernelhub::rotary
