// SPDX-License-Identifier: Apache-2.0
#include "primitives/tensor_check.h"

#include <utility>

namespace kernelhub::primitives {
namespace {

std::int64_t last_size(const TensorArg& argument) {
  return argument.sizes.empty() ? 1 : argument.sizes.back();
}

ByteRows byte_rows(const TensorArg& argument, const RowLayout& layout) {
  const std::int64_t element = argument.dtype.bits / 8;
  return {reinterpret_cast<std::intptr_t>(argument.data), layout.row_stride * element, layout.rows,
          layout.cols * element};
}

// As ByteRows, from the lowest row up.
ByteRows upwards(ByteRows rows) {
  if (rows.rows == 1 || rows.pitch == 0) {
    rows.rows = 1;
    rows.pitch = 1;  // of a single row any
  } else if (rows.pitch < 0) {
    rows.begin += (rows.rows - 1) * rows.pitch;
    rows.pitch = -rows.pitch;
  }
  return rows;
}

// The sum of floor((factor * i + offset) / divisor) for 0 <= i < count, modulo 2^64: Euclid's
// algorithm on the lattice points below a line, as floor_sum of the AtCoder Library
// (https://atcoder.github.io/ac-library/production/document_en/math.html) does it.
std::uint64_t floor_sum(std::uint64_t count, std::uint64_t divisor, std::uint64_t factor,
                        std::uint64_t offset) {
  std::uint64_t sum = 0;
  for (;;) {
    // One of the two factors is even.
    const std::uint64_t pairs = count % 2 == 0 ? count / 2 * (count - 1) : (count - 1) / 2 * count;
    sum += pairs * (factor / divisor) + count * (offset / divisor);
    factor %= divisor;
    offset %= divisor;
    const std::uint64_t top = factor * count + offset;
    if (top < divisor) return sum;
    count = top / divisor;
    offset = top % divisor;
    std::swap(divisor, factor);
  }
}

// How many pairs of a row of `a` and a row of `b` there are with begin of a + `apart` <= begin of
// b, modulo 2^64.
std::uint64_t pairs_apart(const ByteRows& a, const ByteRows& b, std::int64_t apart) {
  // Row j of b has floor((offset + j * pitch of b) / pitch of a) + 1 rows of a, if there are as
  // many: none before `first`, all of them from `full` on.
  const std::int64_t offset = b.begin - a.begin - apart;
  const auto row_from = [&](std::int64_t distance) {
    const std::int64_t row = -floor_of(offset - distance, b.pitch);
    return row < 0 ? 0 : row < b.rows ? row : b.rows;
  };
  const std::int64_t first = row_from(0);
  const std::int64_t full = row_from((a.rows - 1) * a.pitch);
  const auto counted = static_cast<std::uint64_t>(full - first);
  const std::uint64_t all = static_cast<std::uint64_t>(b.rows - full) * a.rows;
  if (counted == 0) return all;
  return all + counted +
         floor_sum(counted, static_cast<std::uint64_t>(a.pitch),
                   static_cast<std::uint64_t>(b.pitch),
                   static_cast<std::uint64_t>(offset + first * b.pitch));
}

}  // namespace

bool rows_meet(ByteRows a, ByteRows b) {
  if (a.rows == 0 || b.rows == 0 || a.width == 0 || b.width == 0) return false;
  a = upwards(a);
  b = upwards(b);
  // Rows at x and y meet where -(width of b) < y - x < width of a.
  return pairs_apart(a, b, 1 - b.width) != pairs_apart(a, b, a.width);
}

std::string list_text(Extents values) {
  std::string text = "[";
  for (std::size_t i = 0; i < values.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(values[i]);
  }
  return text + "]";
}

std::string device_text(const TensorArg& argument) {
  if (argument.device_type == kCpuDevice) return "cpu";
  const std::string index = ":" + std::to_string(argument.device_index);
  if (argument.device_type == kCudaDevice) return "cuda" + index;
  return "device type " + std::to_string(argument.device_type) + index;
}

void ArgumentCheck::fail(const std::string& argument, const std::string& what,
                         const std::string& expected, const std::string& got) const {
  throw std::runtime_error(std::string(package_) + "." + op_ + ": " + argument + " " + what +
                           ": expected " + expected + ", got " + got);
}

void ArgumentCheck::refuse_dtype(const TensorArg& argument, DTypeCode code) const {
  fail(argument.name, "dtype",
       argument.device_type == kCpuDevice ? "float32, float16, bfloat16 or float64"
                                          : "float32, float16 or bfloat16",
       dtype_name(code));
}

void ArgumentCheck::refuse_backend(const TensorArg& argument, const char* backend) const {
  fail(argument.name, "device", std::string(backend) + ", the only backend of this build",
       device_text(argument));
}

void ArgumentCheck::refuse_other_dtype(const TensorArg& argument,
                                       const TensorArg& reference) const {
  fail(argument.name, "dtype", dtype_name(reference.dtype) + " as " + reference.name,
       dtype_name(argument.dtype));
}

void ArgumentCheck::refuse_device(const TensorArg& argument, const TensorArg& reference) const {
  fail(argument.name, "device", device_text(reference) + " as " + reference.name,
       device_text(argument));
}

void ArgumentCheck::refuse_shape(const TensorArg& argument, Extents expected) const {
  fail(argument.name, "shape", list_text(expected), list_text(argument.sizes));
}

void ArgumentCheck::refuse_row_stride(const TensorArg& argument, const RowLayout& layout) const {
  fail(argument.name, "row stride", "at least " + std::to_string(layout.cols),
       std::to_string(layout.row_stride));
}

RowLayout ArgumentCheck::collapsed_rows(const TensorArg& argument) const {
  const std::int64_t cols = last_size(argument);
  const bool is_empty = argument.numel() == 0;
  if (cols > 1 && !is_empty && argument.strides.back() != 1) {
    fail(argument.name, "last stride", "1", std::to_string(argument.strides.back()));
  }
  RowLayout layout{1, cols, cols};
  bool is_first = true;
  for (std::size_t i = argument.sizes.size(); i-- > 1;) {
    const std::int64_t size = argument.sizes[i - 1];
    if (size == 1) continue;
    const std::int64_t stride = argument.strides[i - 1];
    if (is_first) {
      layout.row_stride = stride;
      is_first = false;
    } else if (!is_empty && stride != layout.row_stride * layout.rows) {
      fail(argument.name, "strides", "leading dimensions that collapse to one row stride",
           list_text(argument.strides) + " for shape " + list_text(argument.sizes));
    }
    layout.rows *= size;
  }
  return layout;
}

void ArgumentCheck::overlap_in_one_range(const TensorArg& out, const RowLayout& out_rows,
                                         const TensorArg& input, const RowLayout& input_rows,
                                         Alias alias) const {
  if (out.numel() == 0 || input.numel() == 0) return;
  const bool is_same_pitch = out.dtype.bits == input.dtype.bits &&
                             (out_rows.rows == 1 || out_rows.row_stride == input_rows.row_stride);
  if (alias == Alias::kExact && out.data == input.data && is_same_pitch) return;
  if (!rows_meet(byte_rows(out, out_rows), byte_rows(input, input_rows))) return;
  fail(out.name, "memory",
       alias == Alias::kExact ? std::string("disjoint from ") + input.name + " or identical to it"
                              : std::string("disjoint from ") + input.name,
       "partial overlap");
}

}  // namespace kernelhub::primitives
