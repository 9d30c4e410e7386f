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

/// Strides of one operand along the leading dimensions of the tensor that is rotated.
struct Strides {
  std::int64_t along[kMaxRank];
};

/// The operands of a part, in one order for all of them.
enum Slot { kOut1, kOut2, kX1, kX2, kCos, kSin, kPositions, kSlots };

/// The leading dimensions of a part while they are merged.
struct Dims {
  int count = 0;
  std::int64_t sizes[kMaxRank];
  Strides strides[kSlots];
};

std::string text(std::int64_t value) { return std::to_string(value); }

const char* address(const TensorArg& tensor, std::int64_t elements) {
  return static_cast<const char*>(tensor.data) + elements * (tensor.dtype.bits / 8);
}

void layout(const ArgumentCheck& check, const TensorArg& tensor) {
  if (tensor.sizes.empty()) check.fail(tensor.name, "rank", "at least 1", "0");
  if (tensor.sizes.size() > kMaxRank) {
    check.fail(tensor.name, "rank", "at most " + text(kMaxRank), text(tensor.sizes.size()));
  }
  for (std::size_t i = 0; i < tensor.sizes.size(); ++i) {
    if (tensor.strides[i] < 0 && tensor.sizes[i] > 1) {
      check.fail(tensor.name, "strides", "no negative ones", list_text(tensor.strides));
    }
  }
}

/// `tensor` is made of unit-stride rows.
void row_layout(const ArgumentCheck& check, const TensorArg& tensor) {
  layout(check, tensor);
  if (tensor.sizes.back() > 1 && tensor.numel() > 0 && tensor.strides.back() != 1) {
    check.fail(tensor.name, "last stride", "1", text(tensor.strides.back()));
  }
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

/// Strides along `sizes`, the leading dimensions of the rotated tensor, of an operand whose own
/// leading dimensions are those of `operand` up to `rank`, with a 1 inserted at `unsqueeze`
/// (none when negative), aligned at the right.
Strides broadcast(const ArgumentCheck& check, const TensorArg& operand, int rank, int unsqueeze,
                  primitives::Extents sizes, const TensorArg& rotated) {
  Strides strides{};
  const int leading = static_cast<int>(sizes.size()) - 1;
  const int inserted = unsqueeze >= 0 ? 1 : 0;
  int from = rank - 1;
  for (int to = leading - 1, place = rank + inserted - 1; place >= 0; --to, --place) {
    if (place == unsqueeze && inserted == 1) continue;
    const std::int64_t size = operand.sizes[from];
    if (size != 1 && (to < 0 || size != sizes[to])) {
      check.fail(operand.name, "shape",
                 "one that broadcasts to the leading dimensions of " + std::string(rotated.name) +
                     " " + list_text(sizes),
                 list_text(operand.sizes) +
                     (inserted == 1 ? " unsqueezed at " + text(unsqueeze) : std::string()));
    }
    if (size != 1) strides.along[to] = operand.strides[from];
    --from;
  }
  return strides;
}

Strides own_strides(const TensorArg& tensor) {
  Strides strides{};
  for (std::size_t i = 0; i + 1 < tensor.sizes.size(); ++i) strides.along[i] = tensor.strides[i];
  return strides;
}

/// Whether dimension `outer` continues `inner` for every operand.
bool continues(const Dims& dims, int outer, int inner) {
  for (const Strides& operand : dims.strides) {
    if (operand.along[outer] != operand.along[inner] * dims.sizes[inner]) return false;
  }
  return true;
}

void swap_dims(Dims& dims, int a, int b) {
  if (a == b) return;
  std::swap(dims.sizes[a], dims.sizes[b]);
  for (Strides& operand : dims.strides) std::swap(operand.along[a], operand.along[b]);
}

/// Widest stride of the output first, without dimensions of one index, merged where they are one.
void normalise(Dims& dims) {
  int kept = 0;
  for (int i = 0; i < dims.count; ++i) {
    if (dims.sizes[i] == 1) continue;
    swap_dims(dims, i, kept);
    for (int at = kept++; at > 0; --at) {
      const std::int64_t* out = dims.strides[kOut1].along;
      if (out[at - 1] >= out[at]) break;
      swap_dims(dims, at - 1, at);
    }
  }
  dims.count = kept == 0 ? 0 : 1;
  for (int i = 1; i < kept; ++i) {
    const int last = dims.count - 1;
    if (continues(dims, last, i)) {
      dims.sizes[i] *= dims.sizes[last];
      swap_dims(dims, last, i);
    } else {
      swap_dims(dims, dims.count++, i);
    }
  }
}

void place(const Dims& dims, Slot slot, std::int64_t (&strides)[kMaxDims]) {
  const int unused = kMaxDims - dims.count;
  for (int i = 0; i < dims.count; ++i) strides[unused + i] = dims.strides[slot].along[i];
}

/// The part whose operands' strides are `dims`, which are normalised; data and tail are the
/// caller's.
Part part_of(const ArgumentCheck& check, const TensorArg& rotated, Dims& dims) {
  normalise(dims);
  if (dims.count > kMaxDims) {
    check.fail(rotated.name, "strides",
               "at most " + text(kMaxDims) + " leading dimensions that are not one",
               list_text(rotated.strides) + " for shape " + list_text(rotated.sizes));
  }
  Part part{};
  for (std::int64_t& size : part.sizes) size = 1;
  for (int i = 0; i < dims.count; ++i) part.sizes[kMaxDims - dims.count + i] = dims.sizes[i];
  place(dims, kOut1, part.out1.strides);
  place(dims, kOut2, part.out2.strides);
  place(dims, kX1, part.x1.strides);
  place(dims, kX2, part.x2.strides);
  place(dims, kCos, part.cos.strides);
  place(dims, kSin, part.sin.strides);
  place(dims, kPositions, part.positions.strides);
  return part;
}

void writable(const ArgumentCheck& check, const TensorArg& out, const StridedRegion& region) {
  if (region.is_injective()) return;
  check.fail(out.name, "strides", "elements that share no memory",
             list_text(out.strides) + " for shape " + list_text(out.sizes));
}

void disjoint(const ArgumentCheck& check, const TensorArg& out, const StridedRegion& region,
              const TensorArg& input, const StridedRegion& input_region) {
  if (!region.intersects(input_region)) return;
  check.fail(out.name, "memory", std::string("disjoint from ") + input.name, "an overlap");
}

void disjoint_or_same(const ArgumentCheck& check, const TensorArg& out, const StridedRegion& region,
                      const TensorArg& input, const StridedRegion& input_region) {
  bool has_one_order = true;
  for (std::size_t i = 0; i < out.sizes.size(); ++i) {
    has_one_order = has_one_order && (out.sizes[i] == 1 || out.strides[i] == input.strides[i]);
  }
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

void check_positions(const ArgumentCheck& check, const TensorArg& positions, const TensorArg& q,
                     const TensorArg& cos) {
  check.same_device(positions, q);
  layout(check, positions);
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

/// cos, sin and positions of a call, as every part sees them.
struct Tables {
  const TensorArg& cos;
  const TensorArg& sin;
  const TensorArg* positions;
  int unsqueeze;  // -1: none
};

void add_tables(const ArgumentCheck& check, const Tables& tables, const TensorArg& rotated,
                Dims& dims) {
  const auto along = [&](const TensorArg& operand, std::size_t rank) {
    return broadcast(check, operand, static_cast<int>(rank), tables.unsqueeze, rotated.sizes,
                     rotated);
  };
  if (tables.positions != nullptr) {
    dims.strides[kPositions] = along(*tables.positions, tables.positions->sizes.size());
    return;
  }
  dims.strides[kCos] = along(tables.cos, tables.cos.sizes.size() - 1);
  dims.strides[kSin] = along(tables.sin, tables.sin.sizes.size() - 1);
}

Dims dims_of(const TensorArg& x1, const TensorArg& x2, const TensorArg& out1,
             const TensorArg& out2) {
  Dims dims{};
  dims.count = static_cast<int>(x1.sizes.size()) - 1;
  for (int i = 0; i < dims.count; ++i) dims.sizes[i] = x1.sizes[i];
  dims.strides[kX1] = own_strides(x1);
  dims.strides[kX2] = own_strides(x2);
  dims.strides[kOut1] = own_strides(out1);
  dims.strides[kOut2] = own_strides(out2);
  return dims;
}

/// One tensor of an op on whole tensors, with its shape and memory checked on their own.
struct Rotated {
  const TensorArg& x;
  const TensorArg& out;
  StridedRegion x_region;
  StridedRegion out_region;
};

Rotated checked_rotated(const ArgumentCheck& check, const TensorArg& x, const TensorArg& out,
                        const TensorArg& q) {
  for (const TensorArg* tensor : {&x, &out}) {
    check.same_device(*tensor, q);
    check.same_dtype(*tensor, q);
  }
  row_layout(check, x);
  check.shape(out, x.sizes);
  row_layout(check, out);
  Rotated rotated{x, out, StridedRegion(x), StridedRegion(out)};
  writable(check, out, rotated.out_region);
  if (&x != &out) disjoint_or_same(check, out, rotated.out_region, x, rotated.x_region);
  return rotated;
}

struct Written {
  const TensorArg& out;
  const StridedRegion& region;
};

void check_tables_apart(const ArgumentCheck& check, const Tables& tables,
                        std::initializer_list<Written> results) {
  for (const TensorArg* table : {&tables.cos, &tables.sin, tables.positions}) {
    if (table == nullptr) continue;
    const StridedRegion table_region(*table);
    for (const Written& result : results) {
      disjoint(check, result.out, result.region, *table, table_region);
    }
  }
}

void check_pair_apart(const ArgumentCheck& check, const Rotated& q, const Rotated& k) {
  disjoint(check, q.out, q.out_region, k.x, k.x_region);
  if (&k.x == &k.out) return;
  disjoint(check, q.out, q.out_region, k.out, k.out_region);
  disjoint(check, k.out, k.out_region, q.x, q.x_region);
}

void add_part(const ArgumentCheck& check, const Tables& tables, const Rotated& rotated,
              Params& params) {
  const TensorArg& x = rotated.x;
  const TensorArg& out = rotated.out;
  Dims dims = dims_of(x, x, out, out);
  add_tables(check, tables, x, dims);
  if (x.numel() == 0) return;
  Part part = part_of(check, x, dims);
  const std::int64_t second = params.interleaved ? 1 : params.half;
  part.x1.data = address(x, 0);
  part.x2.data = address(x, second);
  part.out1.data = const_cast<char*>(address(out, 0));
  part.out2.data = const_cast<char*>(address(out, second));
  part.cos.data = tables.cos.data;
  part.sin.data = tables.sin.data;
  part.positions.data = tables.positions == nullptr ? nullptr : tables.positions->data;
  part.tail = x.data == out.data ? 0 : x.sizes.back() - 2 * params.half;
  params.parts[params.count++] = part;
}

}  // namespace

Params checked_halves(const TensorArg& x1, const TensorArg& x2, const TensorArg& cos,
                      const TensorArg& sin, const TensorArg& out1, const TensorArg& out2,
                      bool conj) {
  const ArgumentCheck check("rotary", "apply_rotary");
  for (const TensorArg* tensor : {&x2, &cos, &sin, &out1, &out2}) check.same_device(*tensor, x1);
  Params params{};
  params.dtype = check.supported_dtype(x1);
  for (const TensorArg* tensor : {&x2, &out1, &out2}) {
    check.same_dtype(*tensor, x1);
    check.shape(*tensor, x1.sizes);
  }
  for (const TensorArg* tensor : {&x1, &x2, &cos, &sin, &out1, &out2}) row_layout(check, *tensor);
  params.table_dtype = table_dtype(check, x1, cos, sin);
  params.half = x1.sizes.back();
  params.conj = conj;
  if (cos.sizes.back() != params.half) {
    check.fail(cos.name, "last dimension", text(params.half) + " as x1", text(cos.sizes.back()));
  }

  const StridedRegion x1_region(x1), x2_region(x2), out1_region(out1), out2_region(out2);
  const Tables tables{cos, sin, nullptr, -1};
  writable(check, out1, out1_region);
  writable(check, out2, out2_region);
  disjoint_or_same(check, out1, out1_region, x1, x1_region);
  disjoint_or_same(check, out2, out2_region, x2, x2_region);
  disjoint(check, out1, out1_region, x2, x2_region);
  disjoint(check, out2, out2_region, x1, x1_region);
  disjoint(check, out1, out1_region, out2, out2_region);
  check_tables_apart(check, tables, {{out1, out1_region}, {out2, out2_region}});

  Dims dims = dims_of(x1, x2, out1, out2);
  add_tables(check, tables, x1, dims);
  if (x1.numel() == 0) return params;
  Part part = part_of(check, x1, dims);
  part.x1.data = x1.data;
  part.x2.data = x2.data;
  part.out1.data = out1.data;
  part.out2.data = out2.data;
  part.cos.data = cos.data;
  part.sin.data = sin.data;
  params.parts[params.count++] = part;
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
  Params params{};
  params.dtype = check.supported_dtype(q);
  for (const TensorArg* tensor : {&cos, &sin}) {
    check.same_device(*tensor, q);
    row_layout(check, *tensor);
  }
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
  if (call.positions != nullptr) {
    check_positions(check, *call.positions, q, cos);
    table_rank = call.positions->sizes.size() + 1;
    params.has_wide_positions = call.positions->dtype.bits == 64;
    params.cos_stride = cos.strides[0];
    params.sin_stride = sin.strides[0];
    params.table_rows = cos.sizes[0];
  }
  const int unsqueeze =
      unsqueeze_place(check, call.unsqueeze_dim, static_cast<std::int64_t>(table_rank));
  const Tables tables{cos, sin, call.positions, unsqueeze};
  const Written q_written{*call.q_out, rotated_q.out_region};
  if (!rotated_k) {
    check_tables_apart(check, tables, {q_written});
    add_part(check, tables, rotated_q, params);
    return params;
  }
  check_tables_apart(check, tables, {q_written, {*call.k_out, rotated_k->out_region}});
  add_part(check, tables, rotated_q, params);
  add_part(check, tables, *rotated_k, params);
  return params;
}

}  // namespace kernelhub::rotary
