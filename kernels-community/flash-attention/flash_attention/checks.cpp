// SPDX-License-Identifier: Apache-2.0
#include "flash_attention/checks.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace kernelhub::flash_attention {
namespace {

using primitives::ArgumentCheck;
using primitives::DTypeCode;
using primitives::TensorArg;

constexpr std::int64_t kMaxHeadDim = 256;
constexpr std::int64_t kMaxPackedRows = (std::int64_t{1} << 31) - 256;  // rows times heads of q
constexpr std::int32_t kHostDevice = 1;                                 // DLPack's kDLCPU
constexpr std::int64_t kMaxKeys = std::int64_t{1} << 24;  // key numbers are exact in fp32
constexpr DTypeCode kInt32{DTypeCode::kInt, 32, 1};
constexpr DTypeCode kFloat32{DTypeCode::kFloat, 32, 1};

const std::int32_t* ints(const OptionalArg& argument) {
  return argument ? static_cast<const std::int32_t*>(argument->data) : nullptr;
}

/// First and one past the last byte that a tensor reaches.
struct ByteRange {
  std::intptr_t begin;
  std::intptr_t end;
};

ByteRange bytes_of(const TensorArg& argument) {
  const std::int64_t element = argument.dtype.bits / 8;
  ByteRange range{reinterpret_cast<std::intptr_t>(argument.data), 0};
  range.end = range.begin + element;
  for (std::size_t i = 0; i < argument.sizes.size(); ++i) {
    const std::int64_t reach = (argument.sizes[i] - 1) * argument.strides[i] * element;
    (reach < 0 ? range.begin : range.end) += reach;
  }
  return range;
}

/// The checks of one op, with the words of its arguments.
class CallCheck {
 public:
  /// `tensor`: one of the call's. Values on a device are not read: that would wait for them.
  CallCheck(const char* op, const TensorArg& tensor)
      : check_(KERNELHUB_CHECKS_PACKAGE, op), reads_values_(tensor.device_type == kHostDevice) {}

  const ArgumentCheck& operator*() const { return check_; }
  const ArgumentCheck* operator->() const { return &check_; }
  bool reads_values() const { return reads_values_; }

  void rank(const TensorArg& argument, std::size_t expected) const {
    if (argument.sizes.size() == expected) return;
    check_.fail(argument.name, "rank", std::to_string(expected),
                std::to_string(argument.sizes.size()));
  }

  void unit_last_stride(const TensorArg& argument) const {
    if (argument.numel() == 0 || argument.sizes.back() <= 1 || argument.strides.back() == 1) return;
    check_.fail(argument.name, "last stride", "1", std::to_string(argument.strides.back()));
  }

  /// [batch, row, head, dim], or [row, head, dim] as one batch entry.
  Strides strides(const TensorArg& argument, bool is_varlen) const {
    rank(argument, is_varlen ? 3 : 4);
    unit_last_stride(argument);
    const auto& strides = argument.strides;
    return is_varlen ? Strides{0, strides[0], strides[1]}
                     : Strides{strides[0], strides[1], strides[2]};
  }

  /// No two elements share memory.
  void writable(const TensorArg& argument) const {
    if (argument.numel() == 0) return;
    std::vector<std::size_t> order(argument.sizes.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&argument](std::size_t a, std::size_t b) {
      return argument.strides[a] < argument.strides[b];
    });
    std::int64_t extent = 1;
    for (const std::size_t i : order) {
      if (argument.sizes[i] == 1) continue;
      if (argument.strides[i] < extent) {
        check_.fail(argument.name, "strides", "elements that share no memory",
                    primitives::list_text(argument.strides));
      }
      extent += (argument.sizes[i] - 1) * argument.strides[i];
    }
  }

  void disjoint(const TensorArg& written, const TensorArg& read) const {
    if (written.numel() == 0 || read.numel() == 0) return;
    const ByteRange a = bytes_of(written);
    const ByteRange b = bytes_of(read);
    if (a.end <= b.begin || b.end <= a.begin) return;
    check_.fail(written.name, "memory", std::string("disjoint from ") + read.name, "overlap");
  }

  void dtype(const TensorArg& argument, DTypeCode expected) const {
    if (argument.dtype == expected) return;
    check_.fail(argument.name, "dtype", primitives::dtype_name(expected),
                primitives::dtype_name(argument.dtype));
  }

  /// An int32 vector of `size` numbers on q's device; null when absent.
  const std::int32_t* int_vector(const OptionalArg& argument, const TensorArg& q,
                                 std::int64_t size) const {
    if (!argument) return nullptr;
    check_.same_device(*argument, q);
    dtype(*argument, kInt32);
    check_.shape(*argument, {size});
    unit_last_stride(*argument);
    return ints(argument);
  }

  /// Offsets of sequences: [0, ..., at most `total`], never falling.
  const std::int32_t* offsets(const OptionalArg& argument, const TensorArg& q, std::int64_t batch,
                              std::int64_t total) const {
    const std::int32_t* const values = int_vector(argument, q, batch + 1);
    if (values == nullptr || !reads_values_) return values;
    std::int64_t before = 0;
    for (std::int64_t b = 0; b <= batch; ++b) {
      const bool is_first = b == 0;
      if (values[b] < before || values[b] > total || (is_first && values[b] != 0)) {
        check_.fail(argument->name, "value " + std::to_string(b),
                    is_first ? "0" : between(before, total), std::to_string(values[b]));
      }
      before = values[b];
    }
    return values;
  }

  void in_range(const char* name, std::int64_t index, std::int64_t value, std::int64_t first,
                std::int64_t last) const {
    if (value >= first && value <= last) return;
    check_.fail(name, "value " + std::to_string(index), between(first, last),
                std::to_string(value));
  }

  /// Every page that holds one of the first `rows` rows of `sequence`.
  void pages(const TensorArg& table, std::int64_t sequence, std::int64_t rows,
             std::int64_t page_size, std::int64_t pages) const {
    const auto* entries =
        static_cast<const std::int32_t*>(table.data) + sequence * table.strides[0];
    const std::int64_t used = page_size == 0 ? 0 : (rows + page_size - 1) / page_size;
    for (std::int64_t i = 0; i < used; ++i) {
      if (entries[i] >= 0 && entries[i] < pages) continue;
      check_.fail(table.name, "value [" + std::to_string(sequence) + ", " + std::to_string(i) + "]",
                  between(0, pages - 1), std::to_string(entries[i]));
    }
  }

  void table(const TensorArg& argument, const TensorArg& q, std::int64_t batch) const {
    check_.same_device(argument, q);
    dtype(argument, kInt32);
    rank(argument, 2);
    check_.shape(argument, {batch, argument.sizes[1]});
    unit_last_stride(argument);
  }

  static std::string between(std::int64_t first, std::int64_t last) {
    return "a number in [" + std::to_string(first) + ", " + std::to_string(last) + "]";
  }

 private:
  ArgumentCheck check_;
  bool reads_values_;
};

std::int64_t value_at(const std::int32_t* values, std::int64_t index, std::int64_t otherwise) {
  return values == nullptr ? otherwise : values[index];
}

/// `positions(b)`: how many positions sequence b uses, from its first one on.
template <class Positions>
Rotary checked_rotary(const CallCheck& check, const OptionalArg& cos, const OptionalArg& sin,
                      const OptionalArg& seqlens, const TensorArg& q, std::int64_t batch,
                      bool is_interleaved, bool advances, const Positions& positions) {
  if (!cos && !sin) return {};
  if (!cos || !sin || !seqlens) {
    check->fail(!cos   ? "rotary_cos"
                : !sin ? "rotary_sin"
                       : "rotary_seqlens",
                "presence",
                "all of rotary_cos, rotary_sin and rotary_seqlens, or none of cos and sin", "None");
  }
  for (const OptionalArg* table : {&cos, &sin}) {
    const TensorArg& argument = **table;
    check->same_device(argument, q);
    if (!(argument.dtype == kFloat32) || q.dtype.bits == 64) check->same_dtype(argument, q);
    check.rank(argument, 2);
    check.unit_last_stride(argument);
  }
  check->same_dtype(*sin, *cos);
  check->shape(*sin, cos->sizes);
  const std::int64_t pairs = cos->sizes[1];
  if (2 * pairs > q.sizes.back()) {
    check->fail("rotary_cos", "shape", "at most " + std::to_string(q.sizes.back() / 2) + " columns",
                primitives::list_text(cos->sizes));
  }
  if (cos->sizes[0] > 1 && cos->strides[0] != sin->strides[0]) {
    check->fail("rotary_sin", "strides", primitives::list_text(cos->strides),
                primitives::list_text(sin->strides));
  }
  const std::int32_t* const first = check.int_vector(seqlens, q, batch);
  for (std::int64_t b = 0; check.reads_values() && b < batch; ++b) {
    const std::int64_t count = positions(b);
    if (count > 0) check.in_range("rotary_seqlens", b, first[b], 0, cos->sizes[0] - count);
  }
  return {cos->data,      sin->data, check->supported_dtype(*cos), cos->strides[0], pairs, first,
          is_interleaved, advances};
}

/// The heads and dimensions that k and v must have, given q's.
void check_heads(const CallCheck& check, const TensorArg& q, const TensorArg& k,
                 const TensorArg& v) {
  const std::int64_t heads_q = q.sizes[q.sizes.size() - 2];
  const std::int64_t heads_k = k.sizes[k.sizes.size() - 2];
  const std::int64_t dim = q.sizes.back();
  if (dim < 1 || dim > kMaxHeadDim) {
    check->fail("q", "head dimension", CallCheck::between(1, kMaxHeadDim), std::to_string(dim));
  }
  const std::int64_t dim_v = v.sizes.back();
  if (dim_v < 1 || dim_v > kMaxHeadDim) {
    check->fail("v", "head dimension", CallCheck::between(1, kMaxHeadDim), std::to_string(dim_v));
  }
  if (heads_k < 1 || heads_q % heads_k != 0) {
    check->fail("k", "heads", "a divisor of the " + std::to_string(heads_q) + " heads of q",
                std::to_string(heads_k));
  }
  std::vector<std::int64_t> expected = k.sizes;
  expected.back() = dim;
  check->shape(k, expected);
  expected.back() = dim_v;
  check->shape(v, expected);
}

void check_scalars(const CallCheck& check, const ForwardArguments& a) {
  if (!std::isfinite(a.softmax_scale)) {
    check->fail("softmax_scale", "value", "a finite number", std::to_string(a.softmax_scale));
  }
  if (!(a.softcap >= 0.0) || std::isinf(a.softcap)) {
    check->fail("softcap", "value", "a finite number of at least 0", std::to_string(a.softcap));
  }
  if (a.window_left < -1 || a.window_right < -1) {
    check->fail("window_size", "value", "numbers of at least -1",
                primitives::list_text({a.window_left, a.window_right}));
  }
  if (a.num_splits < 0) {
    check->fail("num_splits", "value", "at least 0", std::to_string(a.num_splits));
  }
}

/// Reads every length and index, so that no row outside of q, k, v or a page is ever touched.
Lengths checked_lengths(const CallCheck& check, const ForwardArguments& a, std::int64_t batch) {
  const bool is_paged = a.block_table.has_value();
  const bool is_varlen_k = a.cu_seqlens_k.has_value() && !is_paged;
  Lengths lengths{};
  lengths.q = a.cu_seqlens_q ? 0 : a.q.sizes[1];
  lengths.cu_q = check.offsets(a.cu_seqlens_q, a.q, batch, a.q.sizes[0]);
  lengths.used_q = check.int_vector(a.seqused_q, a.q, batch);
  lengths.used_k = check.int_vector(a.seqused_k, a.q, batch);
  lengths.leftpad_k = check.int_vector(a.leftpad_k, a.q, batch);
  lengths.cache_batch = check.int_vector(a.cache_batch_idx, a.q, batch);
  std::int64_t capacity = is_varlen_k ? 0 : a.k.sizes[1];
  if (is_paged) {
    check.table(*a.block_table, a.q, batch);
    lengths.block_table = ints(a.block_table);
    lengths.table_stride = a.block_table->strides[0];
    lengths.page_size = a.k.sizes[1];
    capacity = a.block_table->sizes[1] * lengths.page_size;
    if (!a.cu_seqlens_k && !a.seqused_k) {
      check->fail("seqused_k", "presence", "given, or cu_seqlens_k, where block_table is", "None");
    }
    if (a.cache_batch_idx)
      check->fail("cache_batch_idx", "presence", "None with block_table", "a tensor");
  }
  lengths.k = is_varlen_k ? 0 : capacity;
  lengths.cu_k =
      check.offsets(a.cu_seqlens_k, a.q, batch,
                    is_paged ? kMaxKeys * std::max<std::int64_t>(batch, 1) : a.k.sizes[0]);
  if (!is_varlen_k && !is_paged && !a.cache_batch_idx) {
    std::vector<std::int64_t> expected = a.k.sizes;
    expected[0] = batch;
    check->shape(a.k, expected);
  }
  check.in_range("k", 0, capacity, 0, kMaxKeys);
  for (std::int64_t b = 0; check.reads_values() && b < batch; ++b) {
    const std::int64_t q_rows =
        lengths.cu_q == nullptr ? lengths.q : lengths.cu_q[b + 1] - lengths.cu_q[b];
    check.in_range("seqused_q", b, value_at(lengths.used_q, b, 0), 0, q_rows);
    std::int64_t k_rows =
        lengths.cu_k == nullptr ? lengths.k : lengths.cu_k[b + 1] - lengths.cu_k[b];
    if (is_paged && lengths.used_k == nullptr) {
      check.in_range("cu_seqlens_k", b + 1, k_rows, 0, capacity);
    }
    const std::int64_t room = is_paged ? capacity : k_rows;
    check.in_range("seqused_k", b, value_at(lengths.used_k, b, 0), 0, room);
    k_rows = value_at(lengths.used_k, b, k_rows);
    check.in_range("leftpad_k", b, value_at(lengths.leftpad_k, b, 0), 0, k_rows);
    check.in_range("cache_batch_idx", b, value_at(lengths.cache_batch, b, 0), 0,
                   std::max<std::int64_t>(a.k.sizes[0] - 1, 0));
    check.in_range("k", b, k_rows, 0, kMaxKeys);
    if (is_paged) check.pages(*a.block_table, b, k_rows, lengths.page_size, a.k.sizes[0]);
  }
  return lengths;
}

}  // namespace

Params checked_forward(const ForwardArguments& a) {
  const CallCheck check("attention_forward", a.q);
  const bool is_varlen_q = a.cu_seqlens_q.has_value();
  const bool is_varlen_k = a.cu_seqlens_k.has_value() && !a.block_table.has_value();
  Params p{};
  p.dtype = check->supported_dtype(a.q);
  if (a.q.device_type != kHostDevice && p.dtype == primitives::DType::kFloat32) {
    check->fail("q", "dtype", "float16 or bfloat16", primitives::dtype_name(a.q.dtype));
  }
  for (const TensorArg* tensor : {&a.k, &a.v, &a.out}) {
    check->same_device(*tensor, a.q);
    check->same_dtype(*tensor, a.q);
  }
  check->same_device(a.lse, a.q);
  check.dtype(a.lse, kFloat32);
  p.q_strides = check.strides(a.q, is_varlen_q);
  p.k_strides = check.strides(a.k, is_varlen_k);
  p.v_strides = check.strides(a.v, is_varlen_k);
  p.out_strides = check.strides(a.out, is_varlen_q);
  check_heads(check, a.q, a.k, a.v);
  check_scalars(check, a);
  std::vector<std::int64_t> out_sizes = a.q.sizes;
  out_sizes.back() = a.v.sizes.back();
  check->shape(a.out, out_sizes);
  p.heads_q = a.q.sizes[is_varlen_q ? 1 : 2];
  if (is_varlen_q) {
    check.rank(*a.cu_seqlens_q, 1);
    p.batch = std::max<std::int64_t>(a.cu_seqlens_q->sizes[0] - 1, 0);
    p.total_q = a.q.sizes[0];
    check->shape(a.lse, {p.heads_q, p.total_q});
    p.lse_head_stride = a.lse.strides[0];
  } else {
    p.batch = a.q.sizes[0];
    check->shape(a.lse, {p.batch, p.heads_q, a.q.sizes[1]});
    p.lse_batch_stride = a.lse.strides[0];
    p.lse_head_stride = a.lse.strides[1];
  }
  check.unit_last_stride(a.lse);
  check.writable(a.out);
  check.writable(a.lse);
  check.disjoint(a.out, a.lse);
  for (const TensorArg* read : {&a.q, &a.k, &a.v}) {
    check.disjoint(a.out, *read);
    check.disjoint(a.lse, *read);
  }
  p.lengths = checked_lengths(check, a, p.batch);
  p.total_k = is_varlen_k ? a.k.sizes[0] : 0;
  check.in_range("q", 0, a.q.sizes[is_varlen_q ? 0 : 1] * p.heads_q, 0, kMaxPackedRows);
  p.q = a.q.data;
  p.k = a.k.data;
  p.v = a.v.data;
  p.out = a.out.data;
  p.lse = static_cast<float*>(a.lse.data);
  p.heads_k = a.k.sizes[a.k.sizes.size() - 2];
  p.head_dim = a.q.sizes.back();
  p.head_dim_v = a.v.sizes.back();
  p.scale = a.softmax_scale;
  p.softcap = a.softcap;
  p.window_left = a.window_left;
  p.window_right = a.causal ? 0 : a.window_right;
  p.num_splits = a.num_splits;
  const bool is_local = p.window_left >= 0 || p.window_right >= 0;
  p.rotary = checked_rotary(
      check, a.rotary_cos, a.rotary_sin, a.rotary_seqlens, a.q, p.batch, a.rotary_interleaved,
      is_local, [&](std::int64_t b) -> std::int64_t {
        const std::int64_t rows =
            p.lengths.cu_q == nullptr ? p.lengths.q : p.lengths.cu_q[b + 1] - p.lengths.cu_q[b];
        const std::int64_t used = value_at(p.lengths.used_q, b, rows);
        return used == 0 || is_local ? used : 1;
      });
  if (a.alibi_slopes) {
    check->same_device(*a.alibi_slopes, a.q);
    check.dtype(*a.alibi_slopes, kFloat32);
    const bool has_batch = a.alibi_slopes->sizes.size() == 2;
    check->shape(*a.alibi_slopes, has_batch ? std::vector<std::int64_t>{p.batch, p.heads_q}
                                            : std::vector<std::int64_t>{p.heads_q});
    check.unit_last_stride(*a.alibi_slopes);
    p.alibi_slopes = static_cast<const float*>(a.alibi_slopes->data);
    p.alibi_batch_stride = has_batch ? a.alibi_slopes->strides[0] : 0;
  }
  if (a.s_aux) {
    check->same_device(*a.s_aux, a.q);
    check.dtype(*a.s_aux, kFloat32);
    check->shape(*a.s_aux, {p.heads_q});
    check.unit_last_stride(*a.s_aux);
    p.sinks = static_cast<const float*>(a.s_aux->data);
  }
  return p;
}

AppendParams checked_append(const AppendArguments& a) {
  const CallCheck check("append_kv", a.k_cache);
  const bool is_varlen = a.cu_seqlens_k_new.has_value();
  const bool is_paged = a.block_table.has_value();
  AppendParams p{};
  p.dtype = check->supported_dtype(a.k_cache);
  for (const TensorArg* tensor : {&a.v_cache, &a.k, &a.v}) {
    check->same_device(*tensor, a.k_cache);
    check->same_dtype(*tensor, a.k_cache);
  }
  p.k_cache_strides = check.strides(a.k_cache, false);
  p.v_cache_strides = check.strides(a.v_cache, false);
  p.k_strides = check.strides(a.k, is_varlen);
  p.v_strides = check.strides(a.v, is_varlen);
  p.heads_k = a.k_cache.sizes[2];
  p.head_dim = a.k_cache.sizes[3];
  p.head_dim_v = a.v_cache.sizes[3];
  std::vector<std::int64_t> expected = a.k.sizes;
  expected[expected.size() - 2] = p.heads_k;
  expected.back() = p.head_dim;
  check->shape(a.k, expected);
  expected.back() = p.head_dim_v;
  check->shape(a.v, expected);
  check_heads(check, a.k, a.k_cache, a.v_cache);
  for (const TensorArg* written : {&a.k_cache, &a.v_cache}) {
    check.writable(*written);
    check.disjoint(*written, a.k);
    check.disjoint(*written, a.v);
  }
  check.disjoint(a.k_cache, a.v_cache);
  check.rank(a.cache_seqlens, 1);
  p.batch = a.cache_seqlens.sizes[0];
  p.cache_seqlens = check.int_vector(a.cache_seqlens, a.k_cache, p.batch);
  if (!is_varlen) {
    expected = a.k.sizes;
    expected[0] = p.batch;
    check->shape(a.k, expected);
    p.new_rows = a.k.sizes[1];
  } else {
    p.total_new_rows = a.k.sizes[0];
  }
  p.cu_k_new = check.offsets(a.cu_seqlens_k_new, a.k_cache, p.batch, a.k.sizes[0]);
  p.cache_batch = check.int_vector(a.cache_batch_idx, a.k_cache, p.batch);
  std::int64_t capacity = a.k_cache.sizes[1];
  if (is_paged) {
    check.table(*a.block_table, a.k_cache, p.batch);
    p.block_table = ints(a.block_table);
    p.table_stride = a.block_table->strides[0];
    p.page_size = a.k_cache.sizes[1];
    capacity = a.block_table->sizes[1] * p.page_size;
  } else if (!a.cache_batch_idx && a.k_cache.sizes[0] != p.batch) {
    check->fail("k_cache", "batch", std::to_string(p.batch), std::to_string(a.k_cache.sizes[0]));
  }
  p.cache_rows = capacity;
  const auto rows_of = [&p](std::int64_t b) {
    return p.cu_k_new == nullptr ? p.new_rows : std::int64_t{p.cu_k_new[b + 1]} - p.cu_k_new[b];
  };
  for (std::int64_t b = 0; check.reads_values() && b < p.batch; ++b) {
    check.in_range("cache_seqlens", b, p.cache_seqlens[b], 0, capacity - rows_of(b));
    check.in_range("cache_batch_idx", b, value_at(p.cache_batch, b, 0), 0,
                   std::max<std::int64_t>(a.k_cache.sizes[0] - 1, 0));
    if (is_paged) {
      check.pages(*a.block_table, b, p.cache_seqlens[b] + rows_of(b), p.page_size,
                  a.k_cache.sizes[0]);
    }
  }
  p.k_cache = a.k_cache.data;
  p.v_cache = a.v_cache.data;
  p.k = a.k.data;
  p.v = a.v.data;
  p.rotary = checked_rotary(check, a.rotary_cos, a.rotary_sin, a.rotary_seqlens, a.k, p.batch,
                            a.rotary_interleaved, true, rows_of);
  return p;
}

}  // namespace kernelhub::flash_attention
