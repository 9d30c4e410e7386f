// SPDX-License-Identifier: Apache-2.0
// Argument checks that the bindings of all packages share. Every failure is a std::runtime_error
// "<package>.<op>: <argument> <what>: expected <...>, got <...>".
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "primitives/dtype.h"

namespace kernelhub::primitives {

/// Sizes or strides, borrowed from whoever has them: a small call may not pay for copies.
class Extents {
 public:
  constexpr Extents() = default;
  constexpr Extents(const std::int64_t* data, std::size_t count) : data_(data), count_(count) {}
  Extents(const std::vector<std::int64_t>& values) : Extents(values.data(), values.size()) {}
  Extents(std::vector<std::int64_t>&&) = delete;  // would be gone
  /// For arguments of a call alone: the list ends with the expression that it stands in.
  Extents(std::initializer_list<std::int64_t> values) : Extents(values.begin(), values.size()) {}

  std::size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  const std::int64_t* begin() const { return data_; }
  const std::int64_t* end() const { return data_ + count_; }
  std::int64_t operator[](std::size_t i) const { return data_[i]; }
  std::int64_t back() const { return data_[count_ - 1]; }
  operator std::vector<std::int64_t>() const { return {begin(), end()}; }

  friend bool operator==(Extents a, Extents b) {
    bool is_same = a.count_ == b.count_;
    for (std::size_t i = 0; is_same && i < a.count_; ++i) is_same = a[i] == b[i];
    return is_same;
  }
  friend bool operator!=(Extents a, Extents b) { return !(a == b); }

 private:
  const std::int64_t* data_ = nullptr;
  std::size_t count_ = 0;
};

// Device types of DLPack.
constexpr std::int32_t kCpuDevice = 1;
constexpr std::int32_t kCudaDevice = 2;

/// One tensor argument as a binding received it; strides count elements. Borrows all of it.
struct TensorArg {
  const char* name;
  void* data;
  DTypeCode dtype;
  std::int32_t device_type;
  std::int32_t device_index;
  Extents sizes;
  Extents strides;
  /// What `strides` borrows where the tensor names none; copies share it.
  std::shared_ptr<const std::int64_t[]> dense_strides;

  std::int64_t numel() const {
    std::int64_t count = 1;
    for (const std::int64_t size : sizes) count *= size;
    return count;
  }
};

/// The quotient by a positive divisor, rounded down.
constexpr std::int64_t floor_of(std::int64_t value, std::int64_t divisor) {
  return value / divisor - (value % divisor < 0 ? 1 : 0);
}

/// As checks take an argument that a call may lack: null.
inline const TensorArg* pointer(const std::optional<TensorArg>& argument) {
  return argument.has_value() ? &*argument : nullptr;
}

/// A tensor seen as rows of unit-stride elements: row r starts at r * row_stride.
struct RowLayout {
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t row_stride;
};

/// Rows of `width` bytes that lie `pitch` bytes apart, the first one at `begin`. Rows may share
/// memory, a pitch may be 0 or negative.
struct ByteRows {
  std::intptr_t begin;
  std::int64_t pitch;
  std::int64_t rows;
  std::int64_t width;
};

/// Whether a row of one shares a byte with a row of the other: exact, in a number of steps that
/// grows with the logarithm of the pitches only.
bool rows_meet(ByteRows a, ByteRows b);

/// The checks of one call of one op. Borrows both names. What a good call passes is inline, without
/// an allocation; what a bad one comes to is not.
class ArgumentCheck {
 public:
  ArgumentCheck(const char* package, const char* op) : package_(package), op_(op) {}

  /// Raises the error text described at the top of this file.
  [[noreturn]] void fail(const std::string& argument, const std::string& what,
                         const std::string& expected, const std::string& got) const;

  /// `argument` has one of the dtypes that the backend supports; fp64 is CPU only.
  DType supported_dtype(const TensorArg& argument) const {
    return supported_dtype(argument, argument.dtype);
  }
  /// As if `code` were the dtype of `argument`.
  DType supported_dtype(const TensorArg& argument, DTypeCode code) const {
    if (code.lanes == 1 && code.kind == DTypeCode::kFloat) {
      if (code.bits == 32) return DType::kFloat32;
      if (code.bits == 16) return DType::kFloat16;
      if (code.bits == 64 && argument.device_type == kCpuDevice) return DType::kFloat64;
    }
    if (code == DTypeCode{DTypeCode::kBFloat, 16, 1}) return DType::kBFloat16;
    refuse_dtype(argument, code);
  }
  /// `argument` lies on the only device type that this build has kernels for.
  void on_backend(const TensorArg& argument, std::int32_t device_type, const char* backend) const {
    if (argument.device_type != device_type) refuse_backend(argument, backend);
  }
  void same_dtype(const TensorArg& argument, const TensorArg& reference) const {
    if (argument.dtype != reference.dtype) refuse_other_dtype(argument, reference);
  }
  void same_device(const TensorArg& argument, const TensorArg& reference) const {
    if (argument.device_type != reference.device_type ||
        argument.device_index != reference.device_index) {
      refuse_device(argument, reference);
    }
  }
  void shape(const TensorArg& argument, Extents expected) const {
    if (argument.sizes != expected) refuse_shape(argument, expected);
  }

  /// Collapses the leading dimensions to one row stride, or fails: the last stride must be 1.
  RowLayout rows(const TensorArg& argument) const {
    const Extents sizes = argument.sizes;
    const bool is_matrix = sizes.size() == 2 && argument.strides[1] == 1;
    if (is_matrix) return {sizes[0], sizes[1], sizes[0] == 1 ? sizes[1] : argument.strides[0]};
    const bool is_vector = sizes.size() == 1 && argument.strides[0] == 1;
    if (is_vector) return {1, sizes[0], sizes[0]};
    return collapsed_rows(argument);
  }

  /// As `rows`; also no two elements may share memory.
  RowLayout writable_rows(const TensorArg& argument) const {
    const RowLayout layout = rows(argument);
    if (layout.rows > 1 && layout.cols > 0 && layout.row_stride < layout.cols) {
      refuse_row_stride(argument, layout);
    }
    return layout;
  }

  /// `out` and `input` share no element, or are exactly the same elements (`may_alias`).
  enum class Alias { kForbidden, kExact };
  void overlap(const TensorArg& out, const RowLayout& out_rows, const TensorArg& input,
               const RowLayout& input_rows, Alias alias) const {
    if (end_of(out, out_rows) <= begin_of(input, input_rows) ||
        end_of(input, input_rows) <= begin_of(out, out_rows)) {
      return;
    }
    overlap_in_one_range(out, out_rows, input, input_rows, alias);
  }

  /// The first byte of a tensor and the one behind its last, also where rows lie in front of each
  /// other. Of no meaning where there is no element.
  static std::intptr_t begin_of(const TensorArg& argument, const RowLayout& layout) {
    const std::int64_t to_last_row = (layout.rows - 1) * layout.row_stride;
    return reinterpret_cast<std::intptr_t>(argument.data) +
           (to_last_row < 0 ? to_last_row : 0) * (argument.dtype.bits / 8);
  }
  static std::intptr_t end_of(const TensorArg& argument, const RowLayout& layout) {
    const std::int64_t to_last_row = (layout.rows - 1) * layout.row_stride;
    return reinterpret_cast<std::intptr_t>(argument.data) +
           ((to_last_row > 0 ? to_last_row : 0) + layout.cols) * (argument.dtype.bits / 8);
  }

 private:
  [[noreturn]] void refuse_dtype(const TensorArg& argument, DTypeCode code) const;
  [[noreturn]] void refuse_backend(const TensorArg& argument, const char* backend) const;
  [[noreturn]] void refuse_other_dtype(const TensorArg& argument, const TensorArg& reference) const;
  [[noreturn]] void refuse_device(const TensorArg& argument, const TensorArg& reference) const;
  [[noreturn]] void refuse_shape(const TensorArg& argument, Extents expected) const;
  [[noreturn]] void refuse_row_stride(const TensorArg& argument, const RowLayout& layout) const;
  RowLayout collapsed_rows(const TensorArg& argument) const;
  void overlap_in_one_range(const TensorArg& out, const RowLayout& out_rows, const TensorArg& input,
                            const RowLayout& input_rows, Alias alias) const;

  const char* package_;
  const char* op_;
};

/// "[2, 3]"
std::string list_text(Extents values);
/// "cpu", "cuda:1"
std::string device_text(const TensorArg& argument);

}  // namespace kernelhub::primitives
