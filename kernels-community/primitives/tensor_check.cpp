// SPDX-License-Identifier: Apache-2.0
#include "primitives/tensor_check.h"

namespace kernelhub::primitives {
namespace {

std::int64_t last_size(const TensorArg& argument) {
  return argument.sizes.empty() ? 1 : argument.sizes.back();
}

// True when rows that repeat every `pitch` elements never meet: `distance` is where the second
// family starts, relative to the first.
bool interleaved(std::int64_t distance, std::int64_t pitch, std::int64_t first_cols,
                 std::int64_t second_cols) {
  const std::int64_t phase = ((distance % pitch) + pitch) % pitch;
  return phase >= first_cols && phase + second_cols <= pitch;
}

}  // namespace

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
  const auto element = static_cast<std::int64_t>(out.dtype.bits / 8);
  const auto input_element = static_cast<std::int64_t>(input.dtype.bits / 8);
  const std::intptr_t out_begin = begin_of(out);
  const std::intptr_t in_begin = begin_of(input);
  const bool is_same_pitch = element == input_element &&
                             (out_rows.rows == 1 || out_rows.row_stride == input_rows.row_stride);
  if (alias == Alias::kExact && out_begin == in_begin && is_same_pitch) return;
  const std::int64_t distance = in_begin - out_begin;
  if (out_rows.rows > 1 && is_same_pitch && input_rows.row_stride > 0 && distance % element == 0 &&
      interleaved(distance / element, out_rows.row_stride, out_rows.cols, input_rows.cols)) {
    return;
  }
  fail(out.name, "memory",
       alias == Alias::kExact ? std::string("disjoint from ") + input.name + " or identical to it"
                              : std::string("disjoint from ") + input.name,
       "partial overlap");
}

}  // namespace kernelhub::primitives
