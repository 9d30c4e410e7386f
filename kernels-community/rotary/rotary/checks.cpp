// SPDX-License-Identifier: Apache-2.0
#include "rotary/checks.h"

#include <utility>

#include "primitives/strided_region.h"

namespace kernelhub::rotary {
namespace {

using primitives::ArgumentCheck;
using primitives::DType;
using primitives::DTypeCode;
using primitives::list_text;
using primitives::StridedRegion;
using primitives::TensorArg;

constexpr int kMaxRank = StridedRegion::kMaxRank;

/// The operands of a part, in one order for all of them.
enum Slot { kOut1, kOut2, kX1, kX2, kCos, kSin, kPositions, kSlots };

/// A leading dimension of the tensor that is rotated.
struct Dim {
  std::int64_t size;
  std::int64_t strides[kSlots];  // of every operand
};

/// The leading dimensions of a part while they are merged.
struct Dims {
  int count;
  Dim at[kMaxRank];
};

std::string text(std::int64_t value) { return std::to_string(value); }

const char* address(const TensorArg& tensor, std::int64_t elements) {
  return static_cast<const char*>(tensor.data) + elements * (tensor.dtype.bits / 8);
}

/// A tensor and the addresses that it lies between.
struct Placed {
  const TensorArg& arg;
  std::uintptr_t begin;
  std::uintptr_t end;  // behind the last byte
  bool is_empty;
  bool is_nested;  // every step is wider than all within it: no two elements share memory
};

[[noreturn]] void refuse_layout(const ArgumentCheck& check, const TensorArg& tensor) {
  const std::size_t rank = tensor.sizes.size();
  if (rank == 0) check.fail(tensor.name, "rank", "at least 1", "0");
  if (rank > kMaxRank) {
    check.fail(tensor.name, "rank", "at most " + text(kMaxRank), text(rank));
  }
  check.fail(tensor.name, "strides", "no negative ones", list_text(tensor.strides));
}

enum class Rows { kAny, kUnitStride };

Placed placed(const ArgumentCheck& check, const TensorArg& tensor, Rows rows) {
  const std::size_t rank = tensor.sizes.size();
  if (rank == 0 || rank > kMaxRank) refuse_layout(check, tensor);
  bool is_empty = false;
  bool is_nested = true;
  std::int64_t elements = 1;  // from the first to behind the last
  for (std::size_t i = rank; i-- > 0;) {
    const std::int64_t size = tensor.sizes[i];
    const std::int64_t stride = tensor.strides[i];
    is_empty = is_empty || size == 0;
    if (size <= 1) continue;
    if (stride < 0) refuse_layout(check, tensor);
    is_nested = is_nested && stride >= elements;
    elements += (size - 1) * stride;
  }
  if (rows == Rows::kUnitStride && tensor.strides.back() != 1 && tensor.sizes.back() > 1 &&
      !is_empty) {
    check.fail(tensor.name, "last stride", "1", text(tensor.strides.back()));
  }
  const auto begin = reinterpret_cast<std::uintptr_t>(tensor.data);
  const auto bytes = static_cast<std::uintptr_t>(elements * (tensor.dtype.bits / 8));
  return {tensor, begin, begin + bytes, is_empty, is_nested};
}

/// `tensor` is made of unit-stride rows.
Placed placed_rows(const ArgumentCheck& check, const TensorArg& tensor) {
  return placed(check, tensor, Rows::kUnitStride);
}

/// cos and sin: of x's dtype or float32, and alike.
DType table_dtype(const ArgumentCheck& check, const TensorArg& x, const TensorArg& cos,
                  const TensorArg& sin) {
  const bool is_fp32 = cos.dtype == DTypeCode{DTypeCode::kFloat, 32, 1};
  if (!is_fp32 && cos.dtype != x.dtype) {
    check.fail(cos.name, "dtype", dtype_name(x.dtype) + " as " + x.name + ", or float32",
               dtype_name(cos.dtype));
  }
  check.same_dtype(sin, cos);
  check.shape(sin, cos.sizes);
  return is_fp32 ? DType::kFloat32 : check.supported_dtype(x);
}

[[noreturn]] void refuse_broadcast(const ArgumentCheck& check, const TensorArg& operand,
                                   int unsqueeze, const TensorArg& rotated) {
  check.fail(operand.name, "shape",
             "one that broadcasts to the leading dimensions of " + std::string(rotated.name) + " " +
                 list_text(rotated.sizes),
             list_text(operand.sizes) +
                 (unsqueeze >= 0 ? " unsqueezed at " + text(unsqueeze) : std::string()));
}

/// Adds the strides of an operand whose own leading dimensions are those of `operand` up to `rank`,
/// with a 1 inserted at `unsqueeze` (none when negative), aligned at the right with those of
/// `rotated`.
void broadcast(const ArgumentCheck& check, const TensorArg& operand, int rank, int unsqueeze,
               const TensorArg& rotated, Slot slot, Dims& dims) {
  const int inserted = unsqueeze >= 0 ? 1 : 0;
  int from = rank - 1;
  for (int to = dims.count - 1, place = rank + inserted - 1; place >= 0; --to, --place) {
    if (place == unsqueeze && inserted == 1) continue;
    const std::int64_t size = operand.sizes[from];
    if (size != 1 && (to < 0 || size != rotated.sizes[to])) {
      refuse_broadcast(check, operand, unsqueeze, rotated);
    }
    if (size != 1) dims.at[to].strides[slot] = operand.strides[from];
    --from;
  }
}

/// Whether dimension `outer` continues `inner` for every operand.
bool continues(const Dim& outer, const Dim& inner) {
  for (int slot = 0; slot < kSlots; ++slot) {
    if (outer.strides[slot] != inner.strides[slot] * inner.size) return false;
  }
  return true;
}

/// Widest stride of the output first, without dimensions of one index, merged where they are one.
void normalise(Dims& dims) {
  int kept = 0;
  for (int i = 0; i < dims.count; ++i) {
    if (dims.at[i].size == 1) continue;
    if (i != kept) std::swap(dims.at[i], dims.at[kept]);
    for (int at = kept++; at > 0; --at) {
      if (dims.at[at - 1].strides[kOut1] >= dims.at[at].strides[kOut1]) break;
      std::swap(dims.at[at - 1], dims.at[at]);
    }
  }
  dims.count = kept == 0 ? 0 : 1;
  for (int i = 1; i < kept; ++i) {
    Dim& last = dims.at[dims.count - 1];
    if (continues(last, dims.at[i])) {
      dims.at[i].size *= last.size;
      last = dims.at[i];
    } else {
      dims.at[dims.count++] = dims.at[i];
    }
  }
}

template <class Operand>
void place(const Dims& dims, Slot slot, Operand& operand) {
  operand = {};
  const int unused = kMaxDims - dims.count;
  for (int i = 0; i < dims.count; ++i) operand.strides[unused + i] = dims.at[i].strides[slot];
}

/// The next part of a call, whose operands' strides are `dims`; data and tail are the caller's.
Part& add_part_of(const ArgumentCheck& check, const TensorArg& rotated, Dims& dims,
                  Params& params) {
  normalise(dims);
  if (dims.count > kMaxDims) {
    check.fail(rotated.name, "strides",
               "at most " + text(kMaxDims) + " leading dimensions that are not one",
               list_text(rotated.strides) + " for shape " + list_text(rotated.sizes));
  }
  Part& part = params.parts[params.count++];
  const int unused = kMaxDims - dims.count;
  for (int i = 0; i < kMaxDims; ++i) part.sizes[i] = i < unused ? 1 : dims.at[i - unused].size;
  place(dims, kOut1, part.out1);
  place(dims, kOut2, part.out2);
  place(dims, kX1, part.x1);
  place(dims, kX2, part.x2);
  place(dims, kCos, part.cos);
  place(dims, kSin, part.sin);
  place(dims, kPositions, part.positions);
  return part;
}

void writable(const ArgumentCheck& check, const Placed& out) {
  if (out.is_nested || StridedRegion(out.arg).is_injective()) return;
  check.fail(out.arg.name, "strides", "elements that share no memory",
             list_text(out.arg.strides) + " for shape " + list_text(out.arg.sizes));
}

/// Whether two tensors may share a byte, as far as their first and last tell.
bool touch(const Placed& a, const Placed& b) {
  return !a.is_empty && !b.is_empty && a.begin < b.end && b.begin < a.end;
}

void disjoint_where_they_touch(const ArgumentCheck& check, const TensorArg& out,
                               const TensorArg& input) {
  if (!StridedRegion(out).intersects(StridedRegion(input))) return;
  check.fail(out.name, "memory", std::string("disjoint from ") + input.name, "an overlap");
}

void disjoint(const ArgumentCheck& check, const Placed& out, const Placed& input) {
  if (touch(out, input)) disjoint_where_they_touch(check, out.arg, input.arg);
}

void disjoint_or_same(const ArgumentCheck& check, const Placed& placed_out,
                      const Placed& placed_input) {
  if (!touch(placed_out, placed_input)) return;
  const TensorArg& out = placed_out.arg;
  const TensorArg& input = placed_input.arg;
  bool has_one_order = true;
  for (std::size_t i = 0; i < out.sizes.size(); ++i) {
    has_one_order = has_one_order && (out.sizes[i] == 1 || out.strides[i] == input.strides[i]);
  }
  const StridedRegion region(out), input_region(input);
  if (has_one_order && region.is_same(input_region)) return;
  if (!region.intersects(input_region)) return;
  check.fail(out.name, "memory", std::string("disjoint from ") + input.name + " or identical to it",
             "partial overlap");
}

/// `unsqueeze_dim` counted from the front, for a table (or gathered table) of `rank` dimensions.
int unsqueeze_place(const ArgumentCheck& check, std::int64_t unsqueeze_dim, std::int64_t rank) {
  const std::int64_t place = unsqueeze_dim < 0 ? unsqueeze_dim + rank + 1 : unsqueeze_dim;
  if (place < 0 || place >= rank) {
    check.fail("unsqueeze_dim", "value",
               "0 to " + text(rank - 1) + " or " + text(-rank - 1) + " to -2", text(unsqueeze_dim));
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
      check.fail(tensor->name, "last dimension",
                 columns == width ? "an even number" : text(width) + " as q", text(columns));
    }
    const bool is_empty = rotary_dim == 0 && columns == 0;
    if (is_empty || (rotary_dim >= 2 && rotary_dim % 2 == 0 && rotary_dim <= columns)) continue;
    check.fail(
        "rotary_dim", "value",
        "an even number from 2 to " + text(columns) + ", the last dimension of " + tensor->name,
        text(rotary_dim));
  }
  return rotary_dim;
}

void check_table_width(const ArgumentCheck& check, const TensorArg& cos, std::int64_t rotary_dim) {
  const std::int64_t width = cos.sizes.back();
  if (width == rotary_dim || width * 2 == rotary_dim) return;
  check.fail(cos.name, "last dimension", text(rotary_dim) + " or " + text(rotary_dim / 2),
             text(width));
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

Placed checked_positions(const ArgumentCheck& check, const TensorArg& positions, const TensorArg& q,
                         const TensorArg& cos) {
  check.same_device(positions, q);
  const Placed found = placed(check, positions, Rows::kAny);
  const DTypeCode code = positions.dtype;
  const bool is_wide = code == DTypeCode{DTypeCode::kInt, 64, 1};
  if (!is_wide && code != DTypeCode{DTypeCode::kInt, 32, 1}) {
    check.fail(positions.name, "dtype", "int32 or int64", dtype_name(code));
  }
  if (cos.sizes.size() != 2) {
    check.fail(cos.name, "rank", "2, positions by columns", text(cos.sizes.size()));
  }
  if (positions.device_type != primitives::kCpuDevice) return found;
  if (is_wide) {
    check_host_positions<std::int64_t>(check, positions, cos.sizes[0]);
  } else {
    check_host_positions<std::int32_t>(check, positions, cos.sizes[0]);
  }
  return found;
}

/// cos, sin and positions of a call, as every part sees them.
struct Tables {
  const Placed& cos;
  const Placed& sin;
  const Placed* positions;
  int unsqueeze;  // -1: none
};

/// What is rotated, by tables along the same dimensions.
void set_dims(const ArgumentCheck& check, const Tables& tables, const TensorArg& x1,
              const TensorArg& x2, const TensorArg& out1, const TensorArg& out2, Dims& dims) {
  dims.count = static_cast<int>(x1.sizes.size()) - 1;
  for (int i = 0; i < dims.count; ++i) {
    dims.at[i] = {x1.sizes[i], {}};
    dims.at[i].strides[kX1] = x1.strides[i];
    dims.at[i].strides[kX2] = x2.strides[i];
    dims.at[i].strides[kOut1] = out1.strides[i];
    dims.at[i].strides[kOut2] = out2.strides[i];
  }
  const auto add = [&](const TensorArg& operand, std::size_t rank, Slot slot) {
    broadcast(check, operand, static_cast<int>(rank), tables.unsqueeze, x1, slot, dims);
  };
  if (tables.positions != nullptr) {
    add(tables.positions->arg, tables.positions->arg.sizes.size(), kPositions);
  } else {
    add(tables.cos.arg, tables.cos.arg.sizes.size() - 1, kCos);
    add(tables.sin.arg, tables.sin.arg.sizes.size() - 1, kSin);
  }
}

/// One tensor of an op on whole tensors, with its shape and memory checked on their own.
struct Rotated {
  Placed x;
  Placed out;

  bool is_in_place() const { return &x.arg == &out.arg; }
};

Rotated checked_rotated(const ArgumentCheck& check, const TensorArg& x, const TensorArg& out,
                        const TensorArg& q) {
  for (const TensorArg* tensor : {&x, &out}) {
    check.same_device(*tensor, q);
    check.same_dtype(*tensor, q);
  }
  const Placed placed_x = placed_rows(check, x);
  if (&x == &out) {
    writable(check, placed_x);
    return {placed_x, placed_x};
  }
  check.shape(out, x.sizes);
  const Rotated rotated{placed_x, placed_rows(check, out)};
  writable(check, rotated.out);
  disjoint_or_same(check, rotated.out, rotated.x);
  return rotated;
}

void check_tables_apart(const ArgumentCheck& check, const Tables& tables, const Placed& out) {
  disjoint(check, out, tables.cos);
  disjoint(check, out, tables.sin);
  if (tables.positions != nullptr) disjoint(check, out, *tables.positions);
}

void check_pair_apart(const ArgumentCheck& check, const Rotated& q, const Rotated& k) {
  disjoint(check, q.out, k.x);
  if (k.is_in_place()) return;
  disjoint(check, q.out, k.out);
  disjoint(check, k.out, q.x);
}

void add_part(const ArgumentCheck& check, const Tables& tables, const Rotated& rotated,
              Params& params) {
  const TensorArg& x = rotated.x.arg;
  const TensorArg& out = rotated.out.arg;
  Dims dims;
  set_dims(check, tables, x, x, out, out, dims);
  if (rotated.x.is_empty) return;
  Part& part = add_part_of(check, x, dims, params);
  const std::int64_t second = params.interleaved ? 1 : params.half;
  part.x1.data = address(x, 0);
  part.x2.data = address(x, second);
  part.out1.data = const_cast<char*>(address(out, 0));
  part.out2.data = const_cast<char*>(address(out, second));
  part.cos.data = tables.cos.arg.data;
  part.sin.data = tables.sin.arg.data;
  part.positions.data = tables.positions == nullptr ? nullptr : tables.positions->arg.data;
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
  for (const TensorArg* tensor : {&x2, &out1, &out2}) {
    check.same_dtype(*tensor, x1);
    check.shape(*tensor, x1.sizes);
  }
  const Placed placed_x1 = placed_rows(check, x1), placed_x2 = placed_rows(check, x2);
  const Placed placed_cos = placed_rows(check, cos), placed_sin = placed_rows(check, sin);
  const Placed placed_out1 = placed_rows(check, out1), placed_out2 = placed_rows(check, out2);
  params.table_dtype = table_dtype(check, x1, cos, sin);
  params.half = x1.sizes.back();
  params.conj = conj;
  if (cos.sizes.back() != params.half) {
    check.fail(cos.name, "last dimension", text(params.half) + " as x1", text(cos.sizes.back()));
  }

  const Tables tables{placed_cos, placed_sin, nullptr, -1};
  writable(check, placed_out1);
  writable(check, placed_out2);
  disjoint_or_same(check, placed_out1, placed_x1);
  disjoint_or_same(check, placed_out2, placed_x2);
  disjoint(check, placed_out1, placed_x2);
  disjoint(check, placed_out2, placed_x1);
  disjoint(check, placed_out1, placed_out2);
  check_tables_apart(check, tables, placed_out1);
  check_tables_apart(check, tables, placed_out2);

  Dims dims;
  set_dims(check, tables, x1, x2, out1, out2, dims);
  if (placed_x1.is_empty) return params;
  Part& part = add_part_of(check, x1, dims, params);
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
  const Placed placed_cos = placed_rows(check, cos), placed_sin = placed_rows(check, sin);
  params.table_dtype = table_dtype(check, q, cos, sin);
  const Rotated rotated_q = checked_rotated(check, q, *call.q_out, q);
  std::optional<Rotated> rotated_k;
  if (call.k != nullptr) {
    rotated_k.emplace(checked_rotated(check, *call.k, *call.k_out, q));
    check_pair_apart(check, rotated_q, *rotated_k);
  }
  const std::int64_t rotary_dim = checked_rotary_dim(check, call);
  check_table_width(check, cos, rotary_dim);
  params.half = rotary_dim / 2;
  params.interleaved = call.interleaved;
  params.conj = call.conj;
  std::size_t table_rank = cos.sizes.size();
  std::optional<Placed> positions;
  if (call.positions != nullptr) {
    positions.emplace(checked_positions(check, *call.positions, q, cos));
    table_rank = call.positions->sizes.size() + 1;
    params.has_wide_positions = call.positions->dtype.bits == 64;
    params.cos_stride = cos.strides[0];
    params.sin_stride = sin.strides[0];
    params.table_rows = cos.sizes[0];
  }
  const int unsqueeze =
      unsqueeze_place(check, call.unsqueeze_dim, static_cast<std::int64_t>(table_rank));
  const Tables tables{placed_cos, placed_sin, positions.has_value() ? &*positions : nullptr,
                      unsqueeze};
  check_tables_apart(check, tables, rotated_q.out);
  if (rotated_k.has_value()) check_tables_apart(check, tables, rotated_k->out);
  add_part(check, tables, rotated_q, params);
  if (rotated_k.has_value()) add_part(check, tables, *rotated_k, params);
  return params;
}

}  // namespace kernelhub::rotary
