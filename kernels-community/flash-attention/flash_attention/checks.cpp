// SPDX-License-Identifier: Apache-2.0
#include "flash_attention/checks.h"

#include <algorithm>
#include <cmath>

#include "flash_attention/sequence.h"
#include "primitives/strided_region.h"

namespace kernelhub::flash_attention {
namespace {

using primitives::ArgumentCheck;
using primitives::DTypeCode;
using primitives::Extents;
using primitives::StridedRegion;
using primitives::TensorArg;

constexpr std::int64_t kMaxPackedRows = (std::int64_t{1} << 31) - 256;  // rows times heads of q
constexpr std::int32_t kHostDevice = 1;                                 // DLPack's kDLCPU
constexpr std::int64_t kMaxKeys = std::int64_t{1} << 24;    // key numbers are exact in fp32
constexpr std::int64_t kMaxWindow = std::int64_t{1} << 32;  // wider than any two rows are apart
constexpr DTypeCode kInt32{DTypeCode::kInt, 32, 1};
constexpr DTypeCode kFloat32{DTypeCode::kFloat, 32, 1};

const std::int32_t* ints(const OptionalArg& argument) {
  return argument ? static_cast<const std::int32_t*>(argument->data) : nullptr;
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

  /// `count` of `what` is at most `most`.
  void at_most(const char* name, const std::string& what, std::int64_t count,
               std::int64_t most) const {
    if (count <= most) return;
    check_.fail(name, what, "at most " + std::to_string(most), std::to_string(count));
  }

  /// Every page that holds one of the first `rows` rows of `sequence`.
  void pages(const TensorArg& table, std::int64_t sequence, std::int64_t rows,
             std::int64_t page_size, std::int64_t pages) const {
    const auto* entries =
        static_cast<const std::int32_t*>(table.data) + sequence * table.strides[0];
    const std::int64_t used = page_size == 0 ? 0 : ceil_div(rows, page_size);
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

  /// What is written shares no memory with itself, with anything else that is written, or with
  /// anything that is read.
  void memory(const std::vector<const TensorArg*>& written,
              const std::vector<const TensorArg*>& read) const {
    std::vector<StridedRegion> regions;
    for (const TensorArg* argument : written) {
      regions.push_back(region(*argument));
      if (regions.back().is_injective()) continue;
      check_.fail(argument->name, "strides", "elements that share no memory",
                  primitives::list_text(argument->strides));
    }
    for (std::size_t i = 0; i < written.size(); ++i) {
      for (std::size_t j = i + 1; j < written.size(); ++j) {
        disjoint(*written[i], regions[i], *written[j], regions[j]);
      }
    }
    for (const TensorArg* argument : read) {
      const StridedRegion from = region(*argument);
      for (std::size_t i = 0; i < written.size(); ++i) {
        disjoint(*written[i], regions[i], *argument, from);
      }
    }
  }

  static std::string between(std::int64_t first, std::int64_t last) {
    if (last < first) return "none, for there is nothing that it could name";
    return "a number in [" + std::to_string(first) + ", " + std::to_string(last) + "]";
  }

 private:
  StridedRegion region(const TensorArg& argument) const {
    for (std::size_t i = 0; i < argument.sizes.size(); ++i) {
      if (argument.sizes[i] <= 1 || argument.strides[i] >= 0) continue;
      check_.fail(argument.name, "strides", "no negative ones",
                  primitives::list_text(argument.strides));
    }
    return StridedRegion(argument);
  }

  void disjoint(const TensorArg& written, const StridedRegion& region, const TensorArg& other,
                const StridedRegion& other_region) const {
    if (!region.intersects(other_region)) return;
    check_.fail(written.name, "memory", std::string("disjoint from ") + other.name, "overlap");
  }

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
  if (!cos && !sin) {
    if (seqlens) {
      check->fail("rotary_seqlens", "presence", "None without rotary_cos and rotary_sin",
                  "a tensor");
    }
    return {};
  }
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
    if (count == 0) continue;
    if (count > cos->sizes[0]) {
      check->fail("rotary_cos", "rows", "at least " + std::to_string(count),
                  std::to_string(cos->sizes[0]));
    }
    check.in_range("rotary_seqlens", b, first[b], 0, cos->sizes[0] - count);
  }
  return {cos->data,     sin->data,       check->supported_dtype(*cos),
          cos->sizes[0], cos->strides[0], pairs,
          first,         is_interleaved,  advances};
}

/// The heads and dimensions that k and v must have, given q's.
void check_heads(const CallCheck& check, const TensorArg& q, const TensorArg& k,
                 const TensorArg& v) {
  const std::int64_t heads_q = q.sizes[q.sizes.size() - 2];
  const std::int64_t heads_k = k.sizes[k.sizes.size() - 2];
  const std::int64_t dim = q.sizes.back();
  if (dim < 1 || dim > kMaxHeadDim) {
    check->fail(q.name, "head dimension", CallCheck::between(1, kMaxHeadDim), std::to_string(dim));
  }
  const std::int64_t dim_v = v.sizes.back();
  if (dim_v < 1 || dim_v > kMaxHeadDim) {
    check->fail(v.name, "head dimension", CallCheck::between(1, kMaxHeadDim),
                std::to_string(dim_v));
  }
  if (heads_k < 1 || heads_q % heads_k != 0) {
    check->fail(k.name, "heads",
                "a divisor of the " + std::to_string(heads_q) + " heads of " + q.name,
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
  if (is_varlen_k && a.cache_batch_idx) {
    check->fail("cache_batch_idx", "presence", "None with cu_seqlens_k", "a tensor");
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
  check.at_most(a.k.name, "rows", capacity, kMaxKeys);
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
    if (a.cache_batch_idx) {
      check.in_range("cache_batch_idx", b, lengths.cache_batch[b], 0, a.k.sizes[0] - 1);
    }
    check.at_most(a.k.name, "rows of sequence " + std::to_string(b), k_rows, kMaxKeys);
    if (is_paged) check.pages(*a.block_table, b, k_rows, lengths.page_size, a.k.sizes[0]);
  }
  return lengths;
}

/// Those that are there.
std::vector<const TensorArg*> present(std::initializer_list<const OptionalArg*> arguments) {
  std::vector<const TensorArg*> found;
  for (const OptionalArg* argument : arguments) {
    if (*argument) found.push_back(&**argument);
  }
  return found;
}

/// What a forward call reads apart from k and v.
std::vector<const TensorArg*> read_beside_keys(const ForwardArguments& a) {
  std::vector<const TensorArg*> found =
      present({&a.cu_seqlens_q, &a.cu_seqlens_k, &a.seqused_q, &a.seqused_k, &a.leftpad_k,
               &a.block_table, &a.cache_batch_idx, &a.alibi_slopes, &a.s_aux, &a.rotary_cos,
               &a.rotary_sin, &a.rotary_seqlens});
  found.push_back(&a.q);
  return found;
}

std::vector<const TensorArg*> read_of(const AppendArguments& a) {
  std::vector<const TensorArg*> found =
      present({&a.cu_seqlens_k_new, &a.block_table, &a.cache_batch_idx, &a.rotary_cos,
               &a.rotary_sin, &a.rotary_seqlens});
  found.insert(found.end(), {&a.k, &a.v, &a.cache_seqlens});
  return found;
}

/// Everything about a forward call but its memory.
Params forward_params(const CallCheck& check, const ForwardArguments& a) {
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
  p.lengths = checked_lengths(check, a, p.batch);
  p.total_k = is_varlen_k ? a.k.sizes[0] : 0;
  check.at_most("q", "rows times heads", a.q.sizes[is_varlen_q ? 0 : 1] * p.heads_q,
                kMaxPackedRows);
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
  p.window_left = std::min(a.window_left, kMaxWindow);
  p.window_right = a.causal ? 0 : std::min(a.window_right, kMaxWindow);
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
    const std::int64_t shape[] = {p.batch, p.heads_q};
    check->shape(*a.alibi_slopes, has_batch ? Extents(shape, 2) : Extents(shape + 1, 1));
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

/// Everything about new rows but their memory.
AppendParams append_params(const CallCheck& check, const AppendArguments& a) {
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
  p.cache_entries = a.k_cache.sizes[0];
  p.cache_rows = capacity;
  const auto rows_of = [&p](std::int64_t b) {
    return p.cu_k_new == nullptr ? p.new_rows : std::int64_t{p.cu_k_new[b + 1]} - p.cu_k_new[b];
  };
  for (std::int64_t b = 0; check.reads_values() && b < p.batch; ++b) {
    check.at_most(a.k.name, "rows of sequence " + std::to_string(b), rows_of(b), capacity);
    check.in_range("cache_seqlens", b, p.cache_seqlens[b], 0, capacity - rows_of(b));
    if (a.cache_batch_idx) {
      check.in_range("cache_batch_idx", b, p.cache_batch[b], 0, p.cache_entries - 1);
    }
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

}  // namespace

Params checked_forward(const ForwardArguments& a) {
  const CallCheck check("attention_forward", a.q);
  const Params params = forward_params(check, a);
  std::vector<const TensorArg*> read = read_beside_keys(a);
  read.insert(read.end(), {&a.k, &a.v});
  check.memory({&a.out, &a.lse}, read);
  return params;
}

AppendParams checked_append(const AppendArguments& a) {
  const CallCheck check("append_kv", a.k_cache);
  const AppendParams params = append_params(check, a);
  check.memory({&a.k_cache, &a.v_cache}, read_of(a));
  return params;
}

CacheParams checked_cache(const AppendArguments& append, ForwardArguments forward) {
  // The words of this op: what is attended over is the cache, whose rows cache_seqlens counts.
  forward.k.name = append.k_cache.name;
  forward.v.name = append.v_cache.name;
  forward.seqused_k->name = append.cache_seqlens.name;
  const CallCheck check("attention_with_cache", forward.q);
  check->same_device(append.k_cache, forward.q);
  const CacheParams params{append_params(check, append), forward_params(check, forward)};
  std::vector<const TensorArg*> read = read_beside_keys(forward);
  for (const TensorArg* argument : read_of(append)) read.push_back(argument);
  check.memory({&forward.out, &forward.lse, &append.k_cache, &append.v_cache}, read);
  return params;
}

}  // namespace kernelhub::flash_attention
