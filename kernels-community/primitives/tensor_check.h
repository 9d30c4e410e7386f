// SPDX-License-Identifier: Apache-2.0
// Argument checks that the bindings of all packages share. Every failure is a std::runtime_error
// "<package>.<op>: <argument> <what>: expected <...>, got <...>".
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
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
    return a.count_ == b.count_ && std::equal(a.begin(), a.end(), b.begin());
  }
  friend bool operator!=(Extents a, Extents b) { return !(a == b); }

 private:
  const std::int64_t* data_ = nullptr;
  std::size_t count_ = 0;
};

/// One tensor argument as a binding received it; strides count elements. Borrows all of it.
struct TensorArg {
  const char* name;
  void* data;
  DTypeCode dtype;
  std::int32_t device_type;  // DLPack: 1 = CPU, 2 = CUDA
  std::int32_t device_index;
  Extents sizes;
  Extents strides;
  std::vector<std::int64_t> dense_strides;  // what `strides` borrows where the tensor names none

  std::int64_t numel() const;
};

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

/// The checks of one call of one op. Borrows both names.
class ArgumentCheck {
 public:
  ArgumentCheck(const char* package, const char* op) : package_(package), op_(op) {}

  /// Raises the error text described at the top of this file.
  [[noreturn]] void fail(const std::string& argument, const std::string& what,
                         const std::string& expected, const std::string& got) const;

  /// `argument` has one of the dtypes that the backend supports; fp64 is CPU only.
  DType supported_dtype(const TensorArg& argument) const;
  /// `argument` lies on the only device type that this build has kernels for.
  void on_backend(const TensorArg& argument, std::int32_t device_type, const char* backend) const;
  void same_dtype(const TensorArg& argument, const TensorArg& reference) const;
  void same_device(const TensorArg& argument, const TensorArg& reference) const;
  void shape(const TensorArg& argument, Extents expected) const;

  /// Collapses the leading dimensions to one row stride, or fails: the last stride must be 1.
  RowLayout rows(const TensorArg& argument) const;

  /// As `rows`; also no two elements may share memory.
  RowLayout writable_rows(const TensorArg& argument) const;

  /// `out` and `input` share no element, or are exactly the same elements (`may_alias`).
  enum class Alias { kForbidden, kExact };
  void overlap(const TensorArg& out, const RowLayout& out_rows, const TensorArg& input,
               const RowLayout& input_rows, Alias alias) const;

 private:
  const char* package_;
  const char* op_;
};

/// "[2, 3]"
std::string list_text(Extents values);
/// "cpu", "cuda:1"
std::string device_text(const TensorArg& argument);

}  // namespace kernelhub::primitives
